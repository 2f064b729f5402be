"""What a node has to do, as a pure function of the declared resources: sessions, routes, filters, each with
its reason. Agents, reflectors, the BIRD and ExaBGP renderers and the operator's command all act on the same
plan.
"""

from bgpd.plan.model import (
    Blackhole,
    Encapsulation,
    NextHopMode,
    NodePlan,
    Origination,
    OriginKind,
    Peering,
    PeeringKind,
    PlanError,
    PoolPlan,
    Rejection,
    SecretRef,
    TunnelEnd,
    WorkloadRoute,
)
from bgpd.plan.node_plan import plan_node
from bgpd.plan.ordered import differing
from bgpd.plan.policy import Decision, ExportPolicy, ExportRules, ImportPolicy, RouteFacts
from bgpd.plan.reserved import Needed

__all__ = [
    "Blackhole",
    "Decision",
    "Encapsulation",
    "ExportPolicy",
    "ExportRules",
    "ImportPolicy",
    "Needed",
    "NextHopMode",
    "NodePlan",
    "OriginKind",
    "Origination",
    "Peering",
    "PeeringKind",
    "PlanError",
    "PoolPlan",
    "Rejection",
    "RouteFacts",
    "SecretRef",
    "TunnelEnd",
    "WorkloadRoute",
    "differing",
    "plan_node",
]
