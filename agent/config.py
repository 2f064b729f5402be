"""The node agent's configuration, from a YAML file.

Little is needed: the node's name and where the cluster's declared state lives. What concerns routing is
declared there, for all nodes; this file holds what is this machine's own business. Names are camelCase in
the file, as in the resources.
"""

from __future__ import annotations

import os
import socket
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
_UNIONS = ("IPv4", "IPv6", "tuple", "literal", "function")

_PROTOCOLS_TAKEN = {  # rt_protos of iproute2, and Calico's own
    8: "gated", 9: "ra", 10: "mrt", 11: "zebra", 12: "bird", 13: "dnrouted", 14: "xorp", 15: "ntk",
    16: "dhcp", 17: "mrouted", 18: "keepalived", 42: "babel", 80: "Calico", 99: "openr", 186: "bgp",
    187: "isis", 188: "ospf", 189: "rip", 192: "eigrp",
}  # fmt: skip


class ConfigError(Exception):
    """A configuration that can't be used: the place, what is wrong, and what would be right."""


class Model(BaseModel):
    """Strict: a word nobody knows is an error, not a line without effect."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class Kernel(Model):
    """Where the agent's routes stand in the kernel, and what they may rest on.

    `protocol` is the number that marks a route as the agent's (see ``ip route show proto 84``); it must be
    used by no other program of the machine. Routes are never written over another program's.
    """

    table: Annotated[int, Field(ge=1, le=2**32 - 1)] = 254
    metric: Annotated[int, Field(ge=1, le=2**32 - 1)] = 1024
    protocol: Annotated[int, Field(ge=5, le=255)] = 84
    dry_run: bool = False
    resolve_by_default_route: bool = True
    compare_every: Seconds = 60.0

    @model_validator(mode="after")
    def _free_number(self) -> Kernel:
        if self.protocol in _PROTOCOLS_TAKEN:
            owner = _PROTOCOLS_TAKEN[self.protocol]
            raise ValueError(f"protocol {self.protocol} belongs to {owner}; choose a free number")
        return self


class ExaBGP(Model):
    """Where ExaBGP's files and sockets are; a directory that survives the agent."""

    run_directory: Path = Path("/run/cairn/exabgp")
    local_address: IPv4Address | IPv6Address | None = None


class Secrets(Model):
    """Where session passwords are read: a file ``<directory>/<secret name>/<key>``.

    What has no file may be in the environment (``CAIRN_SECRET_<NAME>_<KEY>``, in capitals, every other
    character than letters and digits written as ``_``), or in etcd at ``/cairn/secrets/<name>/<key>``.
    """

    directory: Path = Path("/etc/cairn/secrets")


class Http(Model):
    """The status interface."""

    address: IPv4Address | IPv6Address = IPv4Address("127.0.0.1")
    port: Annotated[int, Field(ge=0, le=65535)] = 9178
    token: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class Mqtt(Model):
    """The broker that status and events are published to."""

    host: str
    port: Port = 1883
    username: str | None = None
    password_file: Path | None = None
    ca: Path | None = None
    prefix: str = "cairn"


class AgentConfig(Model):
    """The whole file.

    ``ipv4`` and ``ipv6`` are this node's addresses with their subnet's length; without them the declared
    Node's are used, and where there is no Node yet, those of the interface with the default route.
    ``static_routes`` are announced besides what the datastore gives this node. ``max_routes`` bounds what is
    learned, over all peers; ``accept_default`` lets 0.0.0.0/0 and ::/0 be learned.
    """

    node: str = Field(default_factory=lambda: os.environ.get("NODENAME") or socket.gethostname())
    datastore: str | None = None
    asn: Annotated[int, Field(ge=1, le=4294967294)] | None = None
    ipv4: IPv4Interface | None = None
    ipv6: IPv6Interface | None = None
    register_node: bool = True
    learn_only: bool = False
    static_routes: tuple[IPv4Network | IPv6Network, ...] = ()
    max_routes: Annotated[int, Field(ge=1)] = 1_000_000
    accept_default: bool = False
    sync_wait: Seconds = 30.0
    lease_ttl: Seconds = 15.0
    kernel: Kernel = Kernel()
    exabgp: ExaBGP = ExaBGP()
    secrets: Secrets = Secrets()
    http: Http | None = None
    mqtt: Mqtt | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"


def load(path: Path) -> AgentConfig:
    """Read a configuration file. Raises ConfigError with the place and the remedy."""
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give the path of a readable file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected a mapping such as 'node: n1', found {type(document).__name__}")
    try:
        return AgentConfig.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(
            f"{_where(item['loc'])}: {item['msg'].removeprefix('Value error, ')}" for item in error.errors()
        )
        raise ConfigError(f"{path}: {problems}") from error


def _where(location: tuple[int | str, ...]) -> str:
    text = ""
    for step in location:
        if isinstance(step, int):
            text += f"[{step}]"
        elif not step.startswith(_UNIONS):
            text += f".{step}" if text else step
    return text or "the file"
