"""The two kinds that are Cairn's own; they live outside Calico's part of the datastore.

``CairnConfiguration`` (named ``default``) declares what Calico has no words for. ``NodeLease`` exists while a
node's agent is alive: it is bound to the datastore's lease and vanishes with it. What concerns one existing
resource is an annotation on it instead: ``cairn.dev/learn-only: "true"`` on a Node makes it a plain server
that learns every route and announces none.
"""

from ipaddress import IPv4Address
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from bgpd.resources.base import CAIRN_API_VERSION, Model, NamedMetadata, Resource
from bgpd.resources.keys import Key
from bgpd.resources.scalars import ClusterId, SelectorText

LEARN_ONLY = "learn-only"
DEFAULT_CLUSTER_ID = IPv4Address("244.0.0.1")


class ReflectorElection(Model):
    """How reflectors are chosen among live nodes: how many, of which nodes, spread over which label's
    values.
    """

    count: int = Field(ge=1, le=32)
    node_selector: SelectorText = "all()"
    spread_label: str = "topology.kubernetes.io/zone"
    cluster_id: ClusterId = Field(DEFAULT_CLUSTER_ID, alias="clusterID")


class CairnConfigurationSpec(Model):
    """Cluster-wide settings of our own."""

    reflectors: ReflectorElection | None = None
    max_prefixes: int | None = Field(None, ge=1)
    """How many prefixes a node takes from one peer before it refuses more."""
    when_reflectors_lost: Literal["Keep", "Expire"] | None = None
    """What becomes of routes when all reflectors are gone: kept while their origin is alive, or expired."""


class CairnConfiguration(Resource):
    """The cluster's Cairn settings."""

    KIND: ClassVar[str] = "CairnConfiguration"
    API_VERSION: ClassVar[str] = CAIRN_API_VERSION
    api_version: str = CAIRN_API_VERSION
    metadata: NamedMetadata = NamedMetadata()
    spec: CairnConfigurationSpec = CairnConfigurationSpec()

    @model_validator(mode="after")
    def _is_the_default(self) -> "CairnConfiguration":
        if self.metadata.name not in ("default", "unnamed"):
            raise ValueError("there is one CairnConfiguration, named default")
        return self

    @property
    def key(self) -> Key:
        return Key(self.KIND, "default")


class NodeLeaseSpec(Model):
    """Who holds the lease, and since when (RFC 3339)."""

    holder: str | None = None
    since: str | None = None


class NodeLease(Resource):
    """That the agent of the node of this name is alive."""

    KIND: ClassVar[str] = "NodeLease"
    API_VERSION: ClassVar[str] = CAIRN_API_VERSION
    api_version: str = CAIRN_API_VERSION
    metadata: NamedMetadata = NamedMetadata()
    spec: NodeLeaseSpec = NodeLeaseSpec()
