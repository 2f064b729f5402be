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
from typing import Annotated

from pydantic import Field, model_validator

from bgpd.telemetry import config as shared
from bgpd.telemetry.config import LogLevel, Model, Mqtt, Port

Seconds = Annotated[float, Field(gt=0)]

PROTOCOLS_TAKEN = {  # protocol numbers of routes: linux/rtnetlink.h, FRR's and Calico's own
    8: "gated", 9: "ra", 10: "mrt", 11: "zebra", 12: "bird", 13: "dnrouted", 14: "xorp", 15: "ntk",
    16: "dhcp", 17: "mrouted", 18: "keepalived", 42: "babel", 80: "Calico", 84: "ovn", 99: "openr",
    186: "bgp", 187: "isis", 188: "ospf", 189: "rip", 190: "ripng", 191: "nhrp", 192: "eigrp", 193: "ldp",
    194: "sharp", 195: "pbr", 196: "FRR's static routes", 197: "openfabric", 198: "srte",
}  # fmt: skip


class Kernel(Model):
    """Where the agent's routes stand in the kernel, and what they may rest on.

    `protocol` is the number that marks a route as the agent's (see ``ip route show proto 179``); it must be
    used by no other program of the machine. Routes are never written over another program's. `metric` is for
    routes of ordinary priority; one with another priority (`setPriority`) has that for its metric. An agent
    started with another table or protocol number takes the routes there along.
    """

    table: Annotated[int, Field(ge=1, le=2**32 - 1)] = 254
    metric: Annotated[int, Field(ge=1, le=2**32 - 1)] = 1024
    protocol: Annotated[int, Field(ge=5, le=255)] = 179
    dry_run: bool = False
    resolve_by_default_route: bool = True
    compare_every: Seconds = 60.0

    @model_validator(mode="after")
    def _free_number(self) -> Kernel:
        if self.protocol in PROTOCOLS_TAKEN:
            owner = PROTOCOLS_TAKEN[self.protocol]
            raise ValueError(f"protocol {self.protocol} belongs to {owner}; choose a free number, as 179")
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


class Http(shared.Http):
    """The status interface. Another address than this machine's own wants a token and TLS."""

    port: Port = 9178


class AgentConfig(Model):
    """The whole file.

    ``node`` is the name of this machine's Node: NODENAME of the environment, or the host name. ``datastore``
    is a directory or etcd://HOST:PORT[,…]; without it CAIRN_DATASTORE and Calico's ETCD_* variables count.
    ``ipv4`` and ``ipv6`` are this node's addresses with their subnet's length; one that is left out is the
    declared Node's, and if both are and there is no Node yet, they are those of the interfaces with the
    default routes.
    ``staticRoutes`` are announced besides what the datastore gives this node. ``maxRoutes`` bounds what is
    learned, over all peers; ``acceptDefault`` lets 0.0.0.0/0 and ::/0 be learned.
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
    log_level: LogLevel = "info"


def load(path: Path) -> AgentConfig:
    """Read a configuration file. Raises ConfigError with the place and the remedy."""
    return shared.read(path, AgentConfig, "node: n1")
