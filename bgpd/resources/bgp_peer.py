"""Declared peerings: which nodes peer with whom, and on what terms.

Without ``node`` and ``nodeSelector`` a BGPPeer is global. The other side is one address (``peerIP``) or all
nodes a selector finds; where it is a node of the cluster, the peering is made on both sides
(``reversePeering: Auto``).
"""

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from bgpd.resources.base import Model, NamedMetadata, Password, Resource
from bgpd.resources.scalars import Address, Asn, Duration, Name, Octet, Peer, RestartTime, SelectorText

MAX_HOLD_TIME = 65535


class BGPPeerSpec(Model):
    """The terms of a peering."""

    node: Name | None = None
    node_selector: SelectorText | None = None
    peer_ip: Peer | None = Field(None, alias="peerIP")
    peer_selector: SelectorText | None = None
    local_workload_selector: SelectorText | None = None
    as_number: Asn | None = None
    local_as_number: Asn | None = Field(None, alias="localASNumber")
    next_hop_mode: Literal["Auto", "Self", "Keep"] | None = None
    keep_original_next_hop: bool | None = None
    password: Password | None = None
    source_address: Literal["UseNodeIP", "None"] | None = None
    max_restart_time: RestartTime | None = None
    keepalive_time: Duration | None = None
    num_allowed_local_as_numbers: Octet | None = Field(None, alias="numAllowedLocalASNumbers")
    ttl_security: Octet | None = Field(None, alias="ttlSecurity")
    reachable_by: Address | None = None
    filters: list[Name] | None = None
    reverse_peering: Literal["Auto", "Manual"] | None = None

    @field_validator(
        "node",
        "node_selector",
        "peer_ip",
        "peer_selector",
        "local_workload_selector",
        "reachable_by",
        "next_hop_mode",
        "source_address",
        "reverse_peering",
        mode="before",
    )
    @classmethod
    def _empty_is_absent(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("keepalive_time")
    @classmethod
    def _fits_hold_time(cls, value: float | None) -> float | None:
        if value is not None and not 1 <= value <= MAX_HOLD_TIME / 3:
            raise ValueError(
                f"a keepalive time is 1s to {MAX_HOLD_TIME // 3}s: the hold time is three times as long"
            )
        return value

    @model_validator(mode="after")
    def _one_of_each(self) -> "BGPPeerSpec":
        if self.node is not None and self.node_selector is not None:
            raise ValueError("node and nodeSelector exclude each other; keep one")
        others = [
            name
            for name, value in (
                ("peerIP", self.peer_ip),
                ("peerSelector", self.peer_selector),
                ("localWorkloadSelector", self.local_workload_selector),
            )
            if value is not None
        ]
        if len(others) > 1:
            raise ValueError(f"{' and '.join(others)} exclude each other; keep one")
        if self.peer_selector is not None and self.as_number is not None:
            raise ValueError("asNumber comes from the selected nodes; leave it out with peerSelector")
        if self.keep_original_next_hop and self.next_hop_mode is not None:
            raise ValueError(
                "keepOriginalNextHop and nextHopMode exclude each other; nextHopMode: Keep says both"
            )
        if self.reachable_by is not None:
            if self.peer_ip is None:
                raise ValueError("reachableBy is the way to one address; it needs peerIP")
            if self.reachable_by.version != self.peer_ip.address.version:
                raise ValueError(
                    f"reachableBy {self.reachable_by} is not of the same family as peerIP {self.peer_ip}"
                )
        return self


class BGPPeer(Resource):
    """One declared peering."""

    KIND: ClassVar[str] = "BGPPeer"
    metadata: NamedMetadata = NamedMetadata()
    spec: BGPPeerSpec

    @property
    def is_global(self) -> bool:
        return self.spec.node is None and self.spec.node_selector is None

    @property
    def names_nobody(self) -> bool:
        """Whether no other side is declared: Calico stores that, and it makes no session."""
        spec = self.spec
        return spec.peer_ip is None and spec.peer_selector is None and spec.local_workload_selector is None
