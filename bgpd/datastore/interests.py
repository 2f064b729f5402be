"""What a reader wants to hear of, so that it is not told the rest.

A node agent needs every Node, BGPPeer, BGPConfiguration, BGPFilter and IPPool, but of workload endpoints,
block affinities and questions to services only its own: with 5,000 nodes anything else is 5,000 x 5,000
work for the store. `node` narrows those three kinds. How a store carries that out is its own business (see
`etcd_ranges` for etcd); what comes out is decided here alone, by `wants`.
"""

from dataclasses import dataclass

from bgpd.resources import Key

PER_NODE_KINDS = frozenset({"WorkloadEndpoint", "BlockAffinity", "ServiceQuestion"})


def endpoint_prefix(node: str) -> str:
    """What the names of the endpoints of `node` begin with; the character after it is never another "-".

    Calico joins <node>-<orchestrator>-<workload>-<endpoint> and writes a "-" inside a part as "--".
    """
    return node.replace("-", "--") + "-"


@dataclass(frozen=True, slots=True)
class Interests:
    """`kinds` None means every kind; `node` None means all nodes' endpoints, affinities and questions."""

    kinds: frozenset[str] | None = None
    node: str | None = None

    def wants_kind(self, kind: str) -> bool:
        return self.kinds is None or kind in self.kinds

    def wants(self, key: Key) -> bool:
        if not self.wants_kind(key.kind):
            return False
        if self.node is None or key.kind not in PER_NODE_KINDS:
            return True
        if key.kind == "BlockAffinity":
            return key.name.partition("/")[0] == self.node
        if key.kind == "ServiceQuestion":
            return key.name.startswith(f"{self.node}.")
        prefix = endpoint_prefix(self.node)
        return key.name.startswith(prefix) and not key.name.startswith("-", len(prefix))


EVERYTHING = Interests()
