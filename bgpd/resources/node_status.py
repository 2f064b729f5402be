"""What a node reports of itself: agent, sessions, routes. Written by agents, read by operators, not by the
plan.
"""

from typing import ClassVar, Literal

from pydantic import Field

from bgpd.resources.base import Model, NamedMetadata, Resource


class DaemonStatus(Model):
    """One BGP speaker; times as the speaker prints them."""

    state: Literal["Ready", "NotReady"] | None = None
    version: str | None = None
    router_id: str | None = Field(None, alias="routerID")
    last_boot_time: str | None = None
    last_reconfiguration_time: str | None = None


class AgentStatus(Model):
    bird_v4: DaemonStatus | None = Field(None, alias="birdV4")
    bird_v6: DaemonStatus | None = Field(None, alias="birdV6")


class PeerStatus(Model):
    """One session."""

    peer_ip: str | None = Field(None, alias="peerIP")
    type: Literal["NodeMesh", "NodePeer", "GlobalPeer"] | None = None
    state: Literal["Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established", "Close"] | None = (
        None
    )
    since: str | None = None


class BgpStatus(Model):
    number_established_v4: int = Field(0, alias="numberEstablishedV4", ge=0)
    number_not_established_v4: int = Field(0, alias="numberNotEstablishedV4", ge=0)
    number_established_v6: int = Field(0, alias="numberEstablishedV6", ge=0)
    number_not_established_v6: int = Field(0, alias="numberNotEstablishedV6", ge=0)
    peers_v4: list[PeerStatus] | None = Field(None, alias="peersV4")
    peers_v6: list[PeerStatus] | None = Field(None, alias="peersV6")


class LearnedFrom(Model):
    source_type: Literal["Kernel", "Static", "Direct", "NodeMesh", "BGPPeer"] | None = None
    peer_ip: str | None = Field(None, alias="peerIP")


class RouteStatus(Model):
    """One route; ``FIB`` when packets follow it, ``RIB`` when it is only known."""

    type: Literal["FIB", "RIB"] | None = None
    destination: str | None = None
    gateway: str | None = None
    interface: str | None = None
    learned_from: LearnedFrom | None = None


class RoutesStatus(Model):
    routes_v4: list[RouteStatus] | None = Field(None, alias="routesV4")
    routes_v6: list[RouteStatus] | None = Field(None, alias="routesV6")


class NodeStatusSpec(Model):
    """What to report, and how often (seconds; 0: not at all)."""

    node: str = Field(min_length=1)
    classes: list[Literal["Agent", "BGP", "Routes"]] | None = Field(None, max_length=3)
    update_period_seconds: int | None = Field(None, ge=0, le=86400)


class NodeStatusReport(Model):
    last_updated: str | None = None
    agent: AgentStatus | None = None
    bgp: BgpStatus | None = None
    routes: RoutesStatus | None = None


class CalicoNodeStatus(Resource):
    """A request for a node's status, and the status."""

    KIND: ClassVar[str] = "CalicoNodeStatus"
    metadata: NamedMetadata = NamedMetadata()
    spec: NodeStatusSpec
    status: NodeStatusReport | None = None
