"""The node-to-node mesh of one node, written out only when somebody looks at it.

In a cluster of a thousand nodes the mesh is a million sessions, of which a comparison of two declarations
needs none: two meshes are equal when what they are made of is equal, and differ by the members they do not
share. So a ``Mesh`` is that recipe, and ``Peerings`` the node's sessions, which makes the mesh's on the first
look.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

from bgpd.plan.facts import NodeFacts
from bgpd.plan.model import Peering, PeeringKind, SecretRef
from bgpd.plan.policy import ExportPolicy, ExportRules, ImportPolicy
from bgpd.resources.bgp_configuration import DEFAULT_LISTEN_PORT
from bgpd.resources.scalars import IPAddress
from bgpd.wire.nlri import IPV4_UNICAST, IPV6_UNICAST, Family

FAMILIES: Mapping[int, tuple[Family, ...]] = {4: (IPV4_UNICAST,), 6: (IPV6_UNICAST,)}
_PREFIX: Mapping[PeeringKind, str] = {
    PeeringKind.MESH: "Mesh",
    PeeringKind.GLOBAL: "Global",
    PeeringKind.NODE: "Node",
    PeeringKind.REVERSE: "Node",
    PeeringKind.ELECTED: "Elected",
}


def peering_name(kind: PeeringKind, address: IPAddress, port: int | None) -> str:
    """Give the name Calico gives to a session: ``Mesh_10_0_0_2``, ``Node_fd00__1_port_1790``."""
    name = f"{_PREFIX[kind]}_{str(address).replace('.', '_').replace(':', '_')}"
    return f"{name}_port_{port}" if port is not None and port != DEFAULT_LISTEN_PORT else name


def by_name(peering: Peering) -> str:
    return peering.name


@dataclass(frozen=True, slots=True)
class Mesh:
    """What a node's mesh sessions are made of. ``members`` includes the node itself and is shared by all
    nodes; ``taken`` are the addresses that explicit peerings have already.
    """

    me: NodeFacts
    members: tuple[NodeFacts, ...]
    taken: frozenset[IPAddress]
    rules: ExportRules
    password: SecretRef | None
    restart_time: int
    max_prefixes: int | None

    def peerings(self, members: Iterable[NodeFacts] | None = None) -> Iterator[Peering]:
        """Give the sessions with all members, or with these."""
        me = self.me
        policies = {
            internal: (ImportPolicy((), internal), ExportPolicy(self.rules, (), internal))
            for internal in (True, False)
        }
        for version, own in ((4, me.ipv4), (6, me.ipv6)):
            if own is None:
                continue
            own_text = str(own)
            families = FAMILIES[version]
            for other in self.members if members is None else members:
                address = other.address(version)
                if address is None or address == own or address in self.taken:
                    continue
                imports, exports = policies[other.asn == me.asn]
                yield Peering(
                    name=peering_name(PeeringKind.MESH, address, None),
                    kind=PeeringKind.MESH,
                    peer_address=address,
                    peer_port=other.port,
                    local_address=own,
                    local_asn=me.asn,
                    peer_asn=other.asn,
                    families=families,
                    import_policy=imports,
                    export_policy=exports,
                    reason=f"node-to-node mesh: {me.name} and {other.name} are no reflectors",
                    passive=str(address) > own_text,
                    password=self.password,
                    graceful_restart=self.restart_time,
                    peer_node=other.name,
                    max_prefixes=self.max_prefixes,
                )


class Peerings(Sequence[Peering]):
    """A node's sessions in the order of their names; equal when made of equal parts."""

    __slots__ = ("_all", "explicit", "mesh")

    def __init__(self, explicit: tuple[Peering, ...] = (), mesh: Mesh | None = None) -> None:
        self.explicit = explicit
        self.mesh = mesh
        self._all: tuple[Peering, ...] | None = None if mesh is not None else explicit

    @property
    def all(self) -> tuple[Peering, ...]:
        if self._all is None:
            meshed = self.mesh.peerings() if self.mesh is not None else ()
            self._all = tuple(sorted([*self.explicit, *meshed], key=by_name))
        return self._all

    @overload
    def __getitem__(self, index: int) -> Peering: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Peering, ...]: ...
    def __getitem__(self, index: int | slice) -> Peering | tuple[Peering, ...]:
        return self.all[index]

    def __len__(self) -> int:
        return len(self.all)

    def __iter__(self) -> Iterator[Peering]:
        return iter(self.all)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Peerings):
            return NotImplemented
        if self.explicit == other.explicit and self.mesh == other.mesh:
            return True
        return self.all == other.all

    def __hash__(self) -> int:
        return hash(self.all)

    def __repr__(self) -> str:
        return f"Peerings({self.all!r})"
