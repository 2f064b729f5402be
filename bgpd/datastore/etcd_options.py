"""How to reach an etcd cluster, and how patient to be with it. Values only."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Endpoint:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files; read anew for every connection, so a renewed certificate needs no restart.

    `ca` None trusts gRPC's built-in roots. `certificate` and `key` come both or not at all.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """All in seconds.

    request: an answer to one request is given up after this. silence: a watch that has not been heard of
    for this long is dead (it is asked for a sign of life at half of it). compare_every: the periodic
    full comparison; `settle` later a difference must still be there to count as a lost event.
    """

    request: float = 5.0
    silence: float = 15.0
    keepalive: float = 10.0
    keepalive_timeout: float = 5.0
    backoff_first: float = 0.1
    backoff_limit: float = 5.0
    compare_every: float = 600.0
    settle: float = 5.0


@dataclass(frozen=True, slots=True)
class EtcdOptions:
    """`tls` None means plaintext. `page`: keys per Range request while listing, at most. `spread`: the
    endpoints are taken in an order of the client's own, so that many clients are not all on one member.
    """

    endpoints: tuple[Endpoint, ...]
    tls: Tls | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    timing: Timing = Timing()
    page: int = 2000
    spread: bool = False

    @property
    def location(self) -> str:
        scheme = "etcds" if self.tls else "etcd"
        return f"{scheme}://{','.join(map(str, self.endpoints))}"
