"""Who is in the lab and where: names, addresses and blocks, computed from three numbers.

Two modes. In `Mode.NAMESPACES` (root) every node and every reflector has a broadcast domain of its own
behind one router, which runs an agent too: a machine without workloads that only learns. In `Mode.LOOPBACK`
(no root) all of them live on addresses of 127.0.0.0/8, there is no router, and kernel routes are computed
but not written.

Pure: nothing here creates anything.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

ASN = 64512
POOL = IPv4Network("10.77.0.0/16")
BLOCK_LENGTH = 26
LARGEST = 200
ROUTER = "router"


class Mode(StrEnum):
    """What stands in for machines."""

    NAMESPACES = "namespaces"
    LOOPBACK = "loopback"


class Role(StrEnum):
    """What a member of the lab is."""

    NODE = "node"
    REFLECTOR = "reflector"
    ROUTER = "router"


@dataclass(frozen=True, slots=True)
class Member:
    """A machine of the lab. `gateway` is its default router, None where there is none."""

    name: str
    role: Role
    number: int
    interface: IPv4Interface
    gateway: IPv4Address | None

    @property
    def address(self) -> IPv4Address:
        """The address it speaks BGP from, which is also its BGP Identifier and the next hop of its routes."""
        return self.interface.ip


@dataclass(frozen=True, slots=True)
class Layout:
    """All members, in the order they are started: reflectors, router, nodes."""

    mode: Mode
    members: tuple[Member, ...]

    def __iter__(self) -> Iterator[Member]:
        return iter(self.members)

    def member(self, name: str) -> Member:
        """The member called `name`; KeyError if there is none."""
        for member in self.members:
            if member.name == name:
                return member
        raise KeyError(name)

    def of(self, *roles: Role) -> tuple[Member, ...]:
        """The members that have one of the roles."""
        return tuple(member for member in self.members if member.role in roles)

    @property
    def learners(self) -> tuple[Member, ...]:
        """The members that run an agent and must come to have every route."""
        return self.of(Role.ROUTER, Role.NODE)

    def gateway_of(self, at: Member, towards: str) -> IPv4Address:
        """Where `at` sends packets for the node `towards`: its own router, or straight there without one."""
        return at.gateway or self.member(towards).address


def lay_out(nodes: int, reflectors: int, mode: Mode) -> Layout:
    """The layout of a lab with that many nodes (2 to 200) and reflectors (1 to 200); ValueError otherwise."""
    if not 2 <= nodes <= LARGEST:
        raise ValueError(f"a lab has 2 to {LARGEST} nodes, not {nodes}")
    if not 1 <= reflectors <= LARGEST:
        raise ValueError(f"a lab has 1 to {LARGEST} reflectors, not {reflectors}")
    reflector_numbers, node_numbers = range(1, reflectors + 1), range(1, nodes + 1)
    members: list[Member] = []
    if mode is Mode.NAMESPACES:
        members += [_behind_router(f"rr{n}", Role.REFLECTOR, n, f"10.201.{n}") for n in reflector_numbers]
        members += [Member(ROUTER, Role.ROUTER, 0, IPv4Interface("10.200.0.1/32"), None)]
        members += [_behind_router(f"node{n}", Role.NODE, n, f"10.200.{n}") for n in node_numbers]
    else:
        members += [_on_loopback(f"rr{n}", Role.REFLECTOR, n, f"127.201.0.{n}") for n in reflector_numbers]
        members += [_on_loopback(f"node{n}", Role.NODE, n, f"127.200.0.{n}") for n in node_numbers]
    return Layout(mode, tuple(members))


def _behind_router(name: str, role: Role, number: int, three_octets: str) -> Member:
    return Member(name, role, number, IPv4Interface(f"{three_octets}.2/24"), IPv4Address(f"{three_octets}.1"))


def _on_loopback(name: str, role: Role, number: int, address: str) -> Member:
    return Member(name, role, number, IPv4Interface(f"{address}/8"), None)


def block_of(node: Member) -> IPv4Network:
    """The block of workload addresses that belongs to a node."""
    return IPv4Network((int(POOL.network_address) + (node.number << 8), BLOCK_LENGTH))
