"""A kernel route as a value, equal exactly when the kernel would forward alike."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address
from typing import NamedTuple


class RouteType(IntEnum):
    """`rtm_type` of rtnetlink(7), as far as the agent writes or respects it."""

    UNICAST = 1
    LOCAL = 2
    BROADCAST = 3
    ANYCAST = 4
    MULTICAST = 5
    BLACKHOLE = 6
    UNREACHABLE = 7
    PROHIBIT = 8
    THROW = 9


class Hop(NamedTuple):
    """Where packets go: out of ``interface`` (its index) to ``gateway`` (4 or 16 octets; b"" = on the link).

    ``onlink``: the kernel shall believe the gateway to be on that link though no address of ours says so.
    """

    gateway: bytes
    interface: int
    onlink: bool = False
    weight: int = 1

    def __str__(self) -> str:
        via = f"via {ip_address(self.gateway)} " if self.gateway else ""
        return f"{via}dev {self.interface}{' onlink' if self.onlink else ''}"


@dataclass(frozen=True, slots=True)
class KernelRoute:
    """Type and hops of a route; several hops are ECMP. Its key (family, prefix) is kept beside it.

    Hops are in ascending order, so that two equal sets are equal values.
    """

    type: RouteType
    hops: tuple[Hop, ...] = ()

    def __str__(self) -> str:
        return " + ".join(map(str, self.hops)) or self.type.name.lower()


BLACKHOLE = KernelRoute(RouteType.BLACKHOLE)


def unicast(*hops: Hop) -> KernelRoute:
    """A forwarding route over one hop or, evenly, over several. A gateway that only one of two says to be on
    the link is one: IPv6 takes none twice, and IPv4 would send it twice as much.
    """
    distinct = {(hop.gateway, hop.interface): hop for hop in sorted(hops)}
    return KernelRoute(RouteType.UNICAST, tuple(distinct.values()))


def workload(interface: int) -> KernelRoute:
    """The route to a workload's own address: on its interface, no gateway."""
    return unicast(Hop(b"", interface))
