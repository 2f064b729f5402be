"""Workload endpoints: an interface of a container or VM, its addresses, and the node it is on."""

from typing import Any, ClassVar

from pydantic import Field

from bgpd.resources.base import Metadata, Model, Resource
from bgpd.resources.keys import Key, endpoint_name
from bgpd.resources.scalars import HostCidr

_DEFAULT_NAMESPACE = "default"


class IPNat(Model):
    """A one-to-one address mapping; kept, not acted on."""

    internal_ip: str | None = Field(None, alias="internalIP")
    external_ip: str | None = Field(None, alias="externalIP")
    source: str | None = None


class EndpointPort(Model):
    """A named port, for policy; kept, not acted on."""

    name: str | None = None
    protocol: str | int | None = None
    port: int | None = None
    host_port: int | None = None
    host_ip: str | None = Field(None, alias="hostIP")


class WorkloadEndpointSpec(Model):
    """An endpoint. ``ip_networks`` are its addresses, one host route each."""

    orchestrator: str | None = None
    workload: str | None = None
    node: str | None = None
    container_id: str | None = Field(None, alias="containerID")
    pod: str | None = None
    endpoint: str | None = None
    service_account_name: str | None = None
    ip_networks: list[HostCidr] | None = None
    ip_nats: list[IPNat] | None = Field(None, alias="ipNATs")
    ipv4_gateway: str | None = Field(None, alias="ipv4Gateway")
    ipv6_gateway: str | None = Field(None, alias="ipv6Gateway")
    profiles: list[str] | None = None
    interface_name: str | None = Field(None, max_length=15)
    mac: str | None = None
    ports: list[EndpointPort] | None = None
    allow_spoofed_source_prefixes: list[str] | None = None
    qos_controls: dict[str, Any] | None = Field(None, alias="qosControls")


class WorkloadEndpoint(Resource):
    """One interface of one workload."""

    KIND: ClassVar[str] = "WorkloadEndpoint"
    metadata: Metadata = Metadata()
    spec: WorkloadEndpointSpec = WorkloadEndpointSpec()

    @property
    def key(self) -> Key:
        return Key(self.KIND, self.metadata.name, self.metadata.namespace or _DEFAULT_NAMESPACE)

    @property
    def node(self) -> str:
        """The node it is on; empty when none is declared."""
        return self.spec.node or ""

    @property
    def composed_name(self) -> str | None:
        """The name Calico gives to an endpoint of these parts; ``None`` while parts are missing."""
        spec = self.spec
        its = {"k8s": spec.pod, "cni": spec.container_id, "libnetwork": "libnetwork"}
        workload = its.get(spec.orchestrator or "", spec.workload)
        if not (spec.node and spec.orchestrator and workload and spec.endpoint):
            return None
        return endpoint_name(spec.node, spec.orchestrator, workload, spec.endpoint)
