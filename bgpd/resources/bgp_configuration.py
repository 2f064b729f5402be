"""Cluster-wide BGP settings: the resource named ``default``, and ``node.<name>`` for what a node may have
of its own.
"""

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import AfterValidator, Field, field_validator, model_validator

from bgpd.resources.base import Model, NamedMetadata, Password, Resource
from bgpd.resources.bgp_filter import Priority
from bgpd.resources.scalars import (
    Address,
    Asn,
    Cidr,
    Community,
    CommunityValue,
    Port,
    RestartTime,
    read_community,
)

DEFAULT_AS_NUMBER = 64512
DEFAULT_LISTEN_PORT = 179
DEFAULT_RESTART_TIME = 120.0
DEFAULT_ROUTE_PRIORITY = 1024

LogSeverity = Literal["Trace", "Debug", "Info", "Warning", "Error", "Fatal", "Panic", "None"]
# The spec fields that are read in a ``node.<name>`` configuration.
NODE_FIELDS = frozenset({"log_severity_screen", "communities", "prefix_advertisements", "listen_port"})
# Those that are refused there, as Calico does. All others it stores: it even writes its defaults itself.
_CLUSTER_FIELDS = (
    "node_to_node_mesh_enabled",
    "as_number",
    "service_cluster_ips",
    "service_external_ips",
    "service_load_balancer_ips",
)
_DEFAULTS = {"service_load_balancer_aggregation": "Enabled"}


def _some_interfaces(value: str) -> str:
    if not value.strip("*"):
        raise ValueError("'*' leaves no interface by which a next hop could be reached; name those to ignore")
    return value


class CidrBlock(Model):
    """A block of service addresses; an empty entry is none."""

    cidr: Cidr | None = None

    @field_validator("cidr", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: object) -> object:
        return None if value == "" else value


class NamedCommunity(Model):
    """A name for a community value."""

    name: str = Field(min_length=1)
    value: CommunityValue


class PrefixAdvertisement(Model):
    """Communities, by name or value, for everything announced out of a CIDR."""

    cidr: Cidr
    communities: list[str] = Field(default=[])


class BGPConfigurationSpec(Model):
    """The settings; what is absent has Calico's default."""

    log_severity_screen: LogSeverity | None = None
    node_to_node_mesh_enabled: bool | None = None
    as_number: Asn | None = None
    service_cluster_ips: list[CidrBlock] | None = Field(None, alias="serviceClusterIPs")
    service_external_ips: list[CidrBlock] | None = Field(None, alias="serviceExternalIPs")
    service_load_balancer_ips: list[CidrBlock] | None = Field(None, alias="serviceLoadBalancerIPs")
    service_load_balancer_aggregation: Literal["Enabled", "Disabled"] | None = None
    communities: list[NamedCommunity] | None = None
    prefix_advertisements: list[PrefixAdvertisement] | None = None
    listen_port: Port | None = None
    bind_mode: Literal["None", "NodeIP"] | None = None
    node_mesh_password: Password | None = None
    node_mesh_max_restart_time: RestartTime | None = None
    ignored_interfaces: list[Annotated[str, AfterValidator(_some_interfaces)]] | None = None
    ipv4_normal_route_priority: Priority | None = Field(None, alias="ipv4NormalRoutePriority")
    ipv6_normal_route_priority: Priority | None = Field(None, alias="ipv6NormalRoutePriority")
    local_workload_peering_ipv4: Address | None = Field(None, alias="localWorkloadPeeringIPV4")
    local_workload_peering_ipv6: Address | None = Field(None, alias="localWorkloadPeeringIPV6")
    program_cluster_routes: str | None = None

    @field_validator("log_severity_screen", mode="before")
    @classmethod
    def _in_any_case(cls, value: object) -> object:
        """Calico takes it in capitals or small letters, and an empty one for none."""
        if isinstance(value, str) and value.capitalize() in get_args(LogSeverity):
            return value.capitalize()
        return None if value == "" else value

    @model_validator(mode="after")
    def _names_are_known_or_values(self) -> "BGPConfigurationSpec":
        names = [community.name for community in self.communities or ()]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the community name {name!r} is given twice")
        if self.node_to_node_mesh_enabled is False and self.node_mesh_password is not None:
            raise ValueError("nodeMeshPassword needs the node-to-node mesh; leave it out or enable the mesh")
        if self.node_to_node_mesh_enabled is False and self.node_mesh_max_restart_time is not None:
            raise ValueError(
                "nodeMeshMaxRestartTime needs the node-to-node mesh; leave it out or enable the mesh"
            )
        return self

    def community(self, name_or_value: str) -> Community | None:
        """Resolve an entry of prefixAdvertisements; ``None`` when it is neither a value nor a name known
        here.
        """
        for named in self.communities or ():
            if named.name == name_or_value:
                return named.value
        try:
            return read_community(name_or_value)
        except ValueError:
            return None


class BGPConfiguration(Resource):
    """``default`` for the cluster, ``node.<name>`` for one node."""

    KIND: ClassVar[str] = "BGPConfiguration"
    metadata: NamedMetadata = NamedMetadata()
    spec: BGPConfigurationSpec = BGPConfigurationSpec()

    @model_validator(mode="after")
    def _node_fields_only(self) -> "BGPConfiguration":
        for name in _CLUSTER_FIELDS if self.node is not None else ():
            if getattr(self.spec, name) not in (None, []):
                raise ValueError(f"{_written(name)} can only be set in the BGPConfiguration named default")
        return self

    @property
    def unread(self) -> list[str]:
        """The fields of a node's configuration that are read in the cluster's alone, as they are written."""
        if self.node is None:
            return []
        return [
            _written(name)
            for name in BGPConfigurationSpec.model_fields
            if name not in NODE_FIELDS and getattr(self.spec, name) not in (None, [], _DEFAULTS.get(name))
        ]

    @property
    def node(self) -> str | None:
        """The node this is for; ``None`` for the cluster's."""
        return self.metadata.name.removeprefix("node.") if self.metadata.name.startswith("node.") else None


def _written(field: str) -> str:
    return BGPConfigurationSpec.model_fields[field].alias or field
