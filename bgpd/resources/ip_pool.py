"""Pools of workload addresses: how they are encapsulated, and whether their routes may leave by BGP.

What only address management reads (``allowedUses``, ``assignmentMode``) is kept whatever a newer Calico says.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from bgpd.resources.base import Model, NamedMetadata, Resource
from bgpd.resources.scalars import Cidr, SelectorText

Encapsulation = Literal["Always", "CrossSubnet", "Never"]
_SMALLEST_BLOCK = {4: 32, 6: 128}
_LARGEST_BLOCK = {4: 20, 6: 116}
_DEFAULT_BLOCK = {4: 26, 6: 122}


class IPPoolSpec(Model):
    """One pool."""

    cidr: Cidr
    vxlan_mode: Encapsulation | None = None
    ipip_mode: Encapsulation | None = None
    nat_outgoing: bool | None = None
    disabled: bool | None = None
    disable_bgp_export: bool | None = Field(None, alias="disableBGPExport")
    block_size: int | None = None
    node_selector: SelectorText | None = None
    namespace_selector: SelectorText | None = None
    allowed_uses: list[str] | None = None
    assignment_mode: str | None = None

    @field_validator("vxlan_mode", "ipip_mode", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: object) -> object:
        return None if value == "" else value

    @model_validator(mode="after")
    def _holds_together(self) -> "IPPoolSpec":
        if (self.vxlan_mode or "Never") != "Never" and (self.ipip_mode or "Never") != "Never":
            raise ValueError("vxlanMode and ipipMode exclude each other; one of them must be Never")
        if self.cidr.version == 6 and (self.ipip_mode or "Never") != "Never":
            raise ValueError("ipipMode is for IPv4 pools; an IPv6 pool has vxlanMode")
        size = self.block_size
        if size:
            largest, smallest = _LARGEST_BLOCK[self.cidr.version], _SMALLEST_BLOCK[self.cidr.version]
            if not largest <= size <= smallest:
                raise ValueError(f"blockSize {size} is not from {largest} to {smallest}")
            # A disabled pool gives out no blocks: Calico stores its default size with any.
            if size < self.cidr.prefixlen and not self.disabled:
                raise ValueError(f"a block of /{size} does not fit into {self.cidr}")
        return self


class IPPool(Resource):
    """A pool and its rules."""

    KIND: ClassVar[str] = "IPPool"
    metadata: NamedMetadata = NamedMetadata()
    spec: IPPoolSpec
    status: dict[str, Any] | None = None
    """Whether Calico gives out addresses of it, as its controllers see it; kept, not acted on."""

    @property
    def block_size(self) -> int:
        """The prefix length of this pool's blocks: as declared, or 26 for IPv4 and 122 for IPv6."""
        return self.spec.block_size or _DEFAULT_BLOCK[self.spec.cidr.version]

    @property
    def exports_bgp(self) -> bool:
        return not self.spec.disable_bgp_export
