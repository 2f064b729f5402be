"""Nodes: where workloads run and BGP is spoken; a node with a reflector's cluster ID is a route reflector."""

from ipaddress import IPv4Interface, IPv6Interface
from typing import ClassVar

from pydantic import Field, field_validator

from bgpd.resources.base import Model, NamedMetadata, Resource
from bgpd.resources.scalars import (
    AddressV4,
    AddressV6,
    Asn,
    ClusterId,
    InterfaceAddress,
    IPInterface,
    Mac,
)


class NodeBgp(Model):
    """A node's BGP identity. The subnet lengths of the addresses decide what "same subnet" means for
    tunnels.
    """

    as_number: Asn | None = None
    ipv4_address: InterfaceAddress | None = Field(None, alias="ipv4Address")
    ipv6_address: InterfaceAddress | None = Field(None, alias="ipv6Address")
    ipv4_ipip_tunnel_addr: AddressV4 | None = Field(None, alias="ipv4IPIPTunnelAddr")
    route_reflector_cluster_id: ClusterId | None = Field(None, alias="routeReflectorClusterID")
    interface: str | None = None
    """The interface the address was found on; informational."""

    @field_validator(
        "ipv4_address", "ipv6_address", "ipv4_ipip_tunnel_addr", "route_reflector_cluster_id", mode="before"
    )
    @classmethod
    def _empty_is_absent(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("ipv4_address")
    @classmethod
    def _is_ipv4(cls, value: IPInterface | None) -> IPInterface | None:
        if isinstance(value, IPv6Interface):
            raise ValueError(f"{value} is an IPv6 address; it belongs in ipv6Address")
        return value

    @field_validator("ipv6_address")
    @classmethod
    def _is_ipv6(cls, value: IPInterface | None) -> IPInterface | None:
        if isinstance(value, IPv4Interface):
            raise ValueError(f"{value} is an IPv4 address; it belongs in ipv4Address")
        return value


class OrchRef(Model):
    """The node's name in an orchestrator."""

    node_name: str | None = None
    orchestrator: str | None = None


class NodeAddress(Model):
    """An address the node can be reached at."""

    address: str
    type: str | None = None


class NodeInterface(Model):
    """An interface of the node, informational."""

    name: str | None = None
    addresses: list[str] | None = None


class NodeWireguard(Model):
    """WireGuard addresses; kept, not acted on."""

    interface_ipv4_address: str | None = Field(None, alias="interfaceIPv4Address")
    interface_ipv6_address: str | None = Field(None, alias="interfaceIPv6Address")


class NodeSpec(Model):
    """What is declared of a node."""

    bgp: NodeBgp | None = None
    ipv4_vxlan_tunnel_addr: AddressV4 | None = Field(None, alias="ipv4VXLANTunnelAddr")
    vxlan_tunnel_mac_addr: Mac | None = Field(None, alias="vxlanTunnelMACAddr")
    ipv6_vxlan_tunnel_addr: AddressV6 | None = Field(None, alias="ipv6VXLANTunnelAddr")
    vxlan_tunnel_mac_addr_v6: Mac | None = Field(None, alias="vxlanTunnelMACAddrV6")
    orch_refs: list[OrchRef] | None = None
    wireguard: NodeWireguard | None = None
    addresses: list[NodeAddress] | None = None
    interfaces: list[NodeInterface] | None = None

    @field_validator(
        "ipv4_vxlan_tunnel_addr", "vxlan_tunnel_mac_addr", "ipv6_vxlan_tunnel_addr",
        "vxlan_tunnel_mac_addr_v6", mode="before",
    )  # fmt: skip
    @classmethod
    def _empty_is_absent(cls, value: object) -> object:
        return None if value == "" else value


class NodeStatus(Model):
    """What Calico's node reports of itself; kept, not acted on."""

    wireguard_public_key: str | None = None
    wireguard_public_key_v6: str | None = Field(None, alias="wireguardPublicKeyV6")
    pod_cidrs: list[str] | None = Field(None, alias="podCIDRs")


class Node(Resource):
    """One node of the cluster."""

    KIND: ClassVar[str] = "Node"
    metadata: NamedMetadata = NamedMetadata()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus | None = None

    @property
    def bgp(self) -> NodeBgp:
        """The BGP part of the spec; an empty one when there is none."""
        return self.spec.bgp or NodeBgp()

    @property
    def ipv4(self) -> IPv4Interface | None:
        """The node's IPv4 address with its subnet."""
        address = self.bgp.ipv4_address
        return address if isinstance(address, IPv4Interface) else None

    @property
    def ipv6(self) -> IPv6Interface | None:
        """The node's IPv6 address with its subnet."""
        address = self.bgp.ipv6_address
        return address if isinstance(address, IPv6Interface) else None

    @property
    def is_reflector(self) -> bool:
        return self.bgp.route_reflector_cluster_id is not None
