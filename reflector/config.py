"""The configuration of a route reflector, from a YAML file.

As small as an AS number, an identifier and a prefix of clients; every other line has a default. The
same values can come from a datastore instead (`datastore` and `node`): then the clients are those the
plan gives this node. Names are camelCase in the file, as in the resources.
"""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from bgpd.telemetry import config as shared
from bgpd.telemetry.config import LogLevel, Model, Mqtt, Port, SecretSource
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family

ASN = Annotated[int, Field(ge=1, le=4294967294)]
IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
FAMILIES = {"ipv4-unicast": IPV4_UNICAST, "ipv6-unicast": IPV6_UNICAST}
FamilyName = Literal["ipv4-unicast", "ipv6-unicast"]


def _hold_time(value: int) -> int:
    if value in (1, 2):
        raise ValueError("a hold time is 0 (no keepalives) or at least 3 seconds (RFC 4271 4.2)")
    return value


HoldTime = Annotated[int, Field(ge=0, le=65535), AfterValidator(_hold_time)]


class Listen(Model):
    """Where connections are accepted."""

    address: IPAddress = IPv4Address("0.0.0.0")  # noqa: S104 - a BGP speaker listens everywhere by default
    port: Port = 179


class MaxPrefixes(Model):
    """A limit on what a peer may announce, over all families (RFC 4486 4)."""

    limit: Annotated[int, Field(ge=1)]
    warn_at: Annotated[int, Field(ge=1, le=100)] = 75
    restart_after: Annotated[int, Field(ge=1)] | None = None


class AddPathOptions(Model):
    """RFC 7911: whether several paths of a prefix are received, and how many at most; how many are sent."""

    receive: bool = False
    receive_limit: Annotated[int, Field(ge=1, le=65535)] = 256
    send: Annotated[int, Field(ge=0, le=64)] = 0


class PeerOptions(Model):
    """What can be said of a peer or of a prefix of peers."""

    families: tuple[FamilyName, ...] = ("ipv4-unicast", "ipv6-unicast")
    hold_time: HoldTime = 90
    keepalive_time: Annotated[int, Field(ge=1, le=65535)] | None = None
    password: SecretSource | None = None
    ttl_security: Annotated[int, Field(ge=1, le=255)] | None = None
    multihop: Annotated[int, Field(ge=1, le=255)] | None = None
    client: bool = True
    asn: ASN | None = None
    local_asn: ASN | None = None
    graceful_restart_time: Annotated[int, Field(ge=0, le=4095)] = 120
    long_lived_stale_time: Annotated[int, Field(ge=0, le=16777215)] = 0
    max_prefixes: MaxPrefixes | None = None
    add_path: AddPathOptions = AddPathOptions()
    allowed_own_as: Annotated[int, Field(ge=0, le=10)] = 0
    next_hop: Literal["auto", "self", "keep"] = "auto"
    without_policy: Literal["reject", "accept"] = "reject"
    enforce_first_as: bool | None = None
    honour_graceful_shutdown: bool = True
    role: Literal["provider", "rs", "rs-client", "customer", "peer"] | None = None
    strict_role: bool = False
    description: str = ""

    @property
    def family_set(self) -> frozenset[Family]:
        """The families as the codec knows them."""
        return frozenset(FAMILIES[name] for name in self.families)


class ClientPrefix(PeerOptions):
    """Any peer whose address lies in `prefix` may connect, and is a client of the same AS."""

    prefix: IPNetwork


class PeerConfig(PeerOptions):
    """One peer by its address; a link-local one with its link (`fe80::1%eth0`)."""

    address: IPAddress
    port: Port = 179
    passive: bool = False
    local_address: IPAddress | None = None


class Http(shared.Http):
    """The status interface. Another address than this machine's own wants a token and TLS."""

    port: Port = 9179


class Limits(Model):
    """Bounds on what strangers and clients may take."""

    unidentified_connections: Annotated[int, Field(ge=1)] = 2048
    open_timeout: Annotated[float, Field(gt=0)] = 20.0
    send_hold_time: Annotated[int, Field(ge=0)] = 480
    end_of_rib_wait: Annotated[float, Field(ge=0)] = 60.0


class ReflectorConfig(Model):
    """The whole file."""

    asn: ASN | None = None
    router_id: IPv4Address | None = None
    cluster_id: IPv4Address | None = None
    listen: Listen | tuple[Listen, ...] = Listen()
    clients: tuple[ClientPrefix, ...] = ()
    peers: tuple[PeerConfig, ...] = ()
    datastore: str | None = None
    node: str | None = None
    secrets: Path = Path("/etc/cairn/secrets")
    without_policy: Literal["reject", "accept"] = "accept"
    enforce_first_as: bool = True
    name: str | None = None
    http: Http | None = None
    mqtt: Mqtt | None = None
    limits: Limits = Limits()
    run_directory: Path | None = None
    log_level: LogLevel = "info"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.datastore is not None:
            if self.node is None:
                raise ValueError(
                    "'datastore' needs 'node', the name of the Node resource that is this reflector"
                )
            return self
        if self.asn is None:
            raise ValueError("'asn' is missing (or give 'datastore' and 'node')")
        if self.router_id is None:
            raise ValueError("'routerId' is missing: an IPv4 address that no other speaker uses")
        if not self.clients and not self.peers:
            raise ValueError("nobody may connect: give 'clients' (prefixes) or 'peers' (addresses)")
        heard = {listen.address.version for listen in self.listeners}
        connecting = (*(each.prefix for each in self.clients), *(p.address for p in self.peers if p.passive))
        for unheard in (each for each in connecting if each.version not in heard):
            remedy = "'listen: [{address: 0.0.0.0}, {address: \"::\"}]' is for both IP versions"
            raise ValueError(f"{unheard} cannot reach any address of 'listen': {remedy}")
        return self

    @property
    def listeners(self) -> tuple[Listen, ...]:
        """Every address to listen on."""
        return (self.listen,) if isinstance(self.listen, Listen) else self.listen


def load(path: Path) -> ReflectorConfig:
    """Read a configuration file; raises ConfigError with the place and the remedy."""
    return shared.read(path, ReflectorConfig, "asn: 65000")


def run_directory(config: ReflectorConfig, environ: Mapping[str, str]) -> Path | None:
    """Where what is to be known after a restart is kept: as configured, or as systemd provides it."""
    provided = environ.get("RUNTIME_DIRECTORY")
    return config.run_directory or (Path(provided) if provided else None)
