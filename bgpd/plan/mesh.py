"""The node-to-node mesh of one node, written out only when somebody looks at it.

In a cluster of a thousand nodes the mesh is a million sessions, of which a comparison of two declarations
needs none: two meshes are equal when what they are made of is equal, and differ by the members they do not
share. So a ``Mesh`` is that recipe, and ``Peerings`` the node's sessions, which makes the mesh's on the first
look.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from types import MappingProxyType
from typing import NamedTuple, overload

from bgpd.plan.facts import NodeFacts
from bgpd.plan.model import Peering, PeeringKind, SecretRef
from bgpd.plan.policy import ExportPolicy, ImportPolicy
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


by_name = attrgetter("name")
IMPORT_ALL = {internal: ImportPolicy((), internal) for internal in (True, False)}
EXPORT_ALL = {internal: ExportPolicy((), internal) for internal in (True, False)}


class Meshed(NamedTuple):
    """The sessions with one member of a mesh, and the member as it was when they were made."""

    other: NodeFacts
    sessions: tuple[Peering, ...]


_NOBODY: Mapping[str, Meshed] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Mesh:
    """What a node's mesh sessions are made of. ``members`` includes the node itself and is shared by all
    nodes; ``taken`` are the addresses that explicit peerings have already. ``former`` are the sessions of a
    mesh on the same terms, which are not made again.
    """

    me: NodeFacts
    members: tuple[NodeFacts, ...]
    taken: frozenset[IPAddress]
    password: SecretRef | None
    restart_time: int
    max_prefixes: int | None
    former: Mapping[str, Meshed] = field(default_factory=dict, compare=False, repr=False)

    @property
    def terms(self) -> tuple[object, ...]:
        """Give all that its sessions have in common."""
        return (self.me, self.password, self.restart_time, self.max_prefixes)

    def sessions(self) -> dict[str, Meshed]:
        """Give the sessions with all members by name, whether the address is taken or not."""
        made: dict[str, Meshed] = {}
        for other in self.members:
            kept = self.former.get(other.name)
            made[other.name] = kept if kept is not None and kept.other is other else self._with(other)
        return made

    def peerings(self, members: Iterable[NodeFacts]) -> Iterator[Peering]:
        """Give the sessions there are with these members."""
        return self.untaken(self._with(other) for other in members)

    def untaken(self, made: Iterable[Meshed]) -> Iterator[Peering]:
        """Give those sessions whose address no explicit peering has."""
        for _, sessions in made:
            for peering in sessions:
                if not self.taken or peering.peer_address not in self.taken:
                    yield peering

    def _with(self, other: NodeFacts) -> Meshed:
        me, found = self.me, []
        internal = other.asn == me.asn
        for version, own in ((4, me.ipv4), (6, me.ipv6)):
            address = other.address(version)
            if own is None or address is None or address == own:
                continue
            found.append(
                Peering(
                    name=peering_name(PeeringKind.MESH, address, None),
                    kind=PeeringKind.MESH,
                    peer_address=address,
                    peer_port=other.port,
                    local_address=own,
                    local_asn=me.asn,
                    peer_asn=other.asn,
                    families=FAMILIES[version],
                    import_policy=IMPORT_ALL[internal],
                    export_policy=EXPORT_ALL[internal],
                    reason=f"node-to-node mesh: {me.name} and {other.name} are no reflectors",
                    passive=str(address) > str(own),
                    password=self.password,
                    graceful_restart=self.restart_time,
                    peer_node=other.name,
                    max_prefixes=self.max_prefixes,
                )
            )
        return Meshed(other, tuple(found))


class Peerings(Sequence[Peering]):
    """A node's sessions in the order of their names; equal when made of equal parts."""

    __slots__ = ("_all", "_meshed", "explicit", "mesh")

    def __init__(self, explicit: tuple[Peering, ...] = (), mesh: Mesh | None = None) -> None:
        self.explicit = explicit
        self.mesh = mesh
        self._meshed: Mapping[str, Meshed] = _NOBODY
        self._all: tuple[Peering, ...] | None = None if mesh is not None else explicit

    @property
    def all(self) -> tuple[Peering, ...]:
        if self._all is None:
            meshed: Iterable[Peering] = ()
            if self.mesh is not None:
                self._meshed = self.mesh.sessions()
                meshed = self.mesh.untaken(self._meshed.values())
            self._all = tuple(sorted([*self.explicit, *meshed], key=by_name))
        return self._all

    @property
    def meshed(self) -> Mapping[str, Meshed]:
        """Give the mesh's sessions that are written out already, here or before."""
        return self._meshed or (self.mesh.former if self.mesh is not None else _NOBODY)

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
