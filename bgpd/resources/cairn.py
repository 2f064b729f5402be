"""The kinds that are Cairn's own; they live outside Calico's part of the datastore.

``CairnConfiguration`` (named ``default``) declares what Calico has no words for. ``NodeLease`` exists while a
node's agent is alive: it is bound to the datastore's lease and vanishes with it. ``ServiceReport`` is what a
service says of itself and ``ServiceQuestion`` what somebody wants to know of it, for operators who reach the
datastore and not the node; no plan depends on either. What concerns one existing resource is an annotation on
it instead: ``cairn.dev/learn-only: "true"`` on a Node makes it a plain server that learns every route and
announces none; ``configured`` in place of ``true`` is its own agent's word, which takes it back as well.
"""

from ipaddress import IPv4Address
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from bgpd.resources.base import CAIRN_API_VERSION, Model, NamedMetadata, Resource
from bgpd.resources.keys import Key
from bgpd.resources.scalars import NUMBER, ClusterId, Moment, SelectorText

LEARN_ONLY = "learn-only"
CONFIGURED = "configured"
DEFAULT_CLUSTER_ID = IPv4Address("244.0.0.1")


class CairnResource(Resource):
    """A kind of our own."""

    API_VERSION: ClassVar[str] = CAIRN_API_VERSION
    api_version: str = CAIRN_API_VERSION
    metadata: NamedMetadata = NamedMetadata()


class ReflectorElection(Model):
    """How reflectors are chosen among live nodes: how many, of which nodes, spread over which label's
    values.
    """

    count: Annotated[int, Field(ge=1, le=32), NUMBER]
    node_selector: SelectorText = "all()"
    spread_label: str = "topology.kubernetes.io/zone"
    cluster_id: ClusterId = Field(DEFAULT_CLUSTER_ID, alias="clusterID")


class CairnConfigurationSpec(Model):
    """Cluster-wide settings of our own."""

    reflectors: ReflectorElection | None = None
    max_prefixes: Annotated[int, Field(ge=1, le=2**32 - 1), NUMBER] | None = None
    """How many prefixes a node takes from one peer before it refuses more."""
    when_reflectors_lost: Literal["Keep", "Expire"] | None = None
    """What becomes of routes when all reflectors are gone: kept while their origin is alive, or expired."""


class CairnConfiguration(CairnResource):
    """The cluster's Cairn settings."""

    KIND: ClassVar[str] = "CairnConfiguration"
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


class NodeLease(CairnResource):
    """That the agent of the node of this name is alive."""

    KIND: ClassVar[str] = "NodeLease"
    spec: NodeLeaseSpec = NodeLeaseSpec()


class ServiceReportSpec(Model):
    """A service's status as it was at ``reportedAt`` (RFC 3339), in the words of its status interface.

    ``since``: when it became ready, or ceased to be. ``down``: expected sessions that are not established, at
    most 50. ``numbers``: its gauges and counters by name, summed over their labels; ``slowest``: the 99th
    percentile of its delays, in seconds. ``events``: of the last minutes; the last of all is ``lastEvent``.
    """

    service: str = Field(min_length=1)
    node: str = Field(min_length=1)
    reported_at: Moment
    since: Moment
    status: dict[str, Any]
    down: list[dict[str, Any]] = Field(default_factory=list)
    numbers: dict[str, Any] = Field(default_factory=dict)
    slowest: float | None = None
    events: list[dict[str, Any]] = Field(default_factory=list)
    last_event: int = 0


class ServiceReport(CairnResource):
    """What a running service says of itself, written every minute and when it changes."""

    KIND: ClassVar[str] = "ServiceReport"
    spec: ServiceReportSpec


class ServiceQuestionSpec(Model):
    """Who is asked, and what: the last part of ``/api/v1/<what>`` and its query."""

    service: str = Field(min_length=1)
    node: str = Field(min_length=1)
    what: str = Field(min_length=1)
    query: dict[str, Any] = Field(default_factory=dict)


class ServiceAnswer(Model):
    """The document asked for, or why there is none."""

    document: dict[str, Any] | None = None
    failure: str | None = None


class ServiceQuestion(CairnResource):
    """A question to one service, `<node>.<service>.<any>`. Who asks removes it; if forgotten, the service."""

    KIND: ClassVar[str] = "ServiceQuestion"
    spec: ServiceQuestionSpec
    status: ServiceAnswer | None = None
