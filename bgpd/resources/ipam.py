"""Address management as Calico stores it: which blocks are whose, and which addresses in them are taken.

In etcd the first four are bare values whose identity is in the key; in files they are documents like every
other kind (the shape Calico's Kubernetes resources have). ``from_etcd`` and ``to_etcd`` translate, unknown
fields included. The plan acts on affinities alone; blocks, handles and the configuration are read for display
and kept untouched.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator

from bgpd.resources.base import Metadata, Model, NamedMetadata, Resource, part_of_key
from bgpd.resources.keys import Key, affinity_key
from bgpd.resources.scalars import Cidr, IPNetwork, Name, read_network

AffinityState = Literal["confirmed", "pending", "pendingDeletion"]


class IpamResource(Resource):
    """A kind whose etcd value is its bare spec, with the identity in the key."""

    # The fields a key carries (absent from the etcd value), and the names etcd values use instead of the
    # document's.
    KEY_FIELDS: ClassVar[frozenset[str]] = frozenset()
    ETCD_NAMES: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def from_etcd(cls, key: Key, value: dict[str, Any]) -> dict[str, Any]:
        """Give the document of a stored value."""
        documented = {etcd: name for name, etcd in cls.ETCD_NAMES.items()}
        spec = {documented.get(name, name): item for name, item in value.items()}
        return {
            "apiVersion": cls.API_VERSION,
            "kind": cls.KIND,
            "metadata": {"name": key.name.translate(_NAME_CHARACTERS)},
            "spec": {**cls.spec_of_key(key), **spec},
        }

    def to_etcd(self) -> dict[str, Any]:
        """Give the stored value, without what the key says."""
        spec: dict[str, Any] = self.spec.model_dump(mode="json", exclude_unset=True)
        return {
            self.ETCD_NAMES.get(name, name): item
            for name, item in spec.items()
            if name not in self.KEY_FIELDS
        }

    @classmethod
    def spec_of_key(cls, key: Key) -> dict[str, Any]:  # noqa: ARG003  the one kind without an identity in its key
        """Give the spec fields that the key carries."""
        return {}


_NAME_CHARACTERS = str.maketrans("/:", "--")


class BlockAffinitySpec(Model):
    """That a block belongs to a node. Only a confirmed one (or one without any state) is announced."""

    state: AffinityState | None = None
    node: Name
    cidr: Cidr
    deleted: bool | None = None
    type: str | None = None

    @field_validator("state", "deleted", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: object) -> object:
        return None if value == "" else value


class BlockAffinity(IpamResource):
    """A node's claim on a block."""

    KIND: ClassVar[str] = "BlockAffinity"
    KEY_FIELDS: ClassVar[frozenset[str]] = frozenset({"node", "cidr"})
    metadata: Metadata = Metadata()
    spec: BlockAffinitySpec

    @property
    def key(self) -> Key:
        return affinity_key(self.spec.node, self.spec.cidr)

    @property
    def node(self) -> str:
        return self.spec.node

    @property
    def cidr(self) -> IPNetwork:
        return self.spec.cidr

    @property
    def is_confirmed(self) -> bool:
        """Whether the block may be announced: confirmed, or written before states existed."""
        return self.spec.state in (None, "confirmed") and not self.spec.deleted

    @classmethod
    def spec_of_key(cls, key: Key) -> dict[str, Any]:
        node, _, cidr = key.name.partition("/")
        return {"node": node, "cidr": cidr}


class AllocationAttribute(Model):
    """Whose an allocation is."""

    handle_id: str | None = Field(None, alias="handle_id")
    secondary: dict[str, str] | None = None
    alternate: dict[str, str] | None = None


class IPAMBlockSpec(Model):
    """A block: ``allocations[i]`` is the index into ``attributes`` for its i-th address, or null when
    free.
    """

    cidr: Cidr
    affinity: str | None = None
    affinity_claim_time: str | None = None
    strict_affinity: bool | None = None
    allocations: list[int | None] | None = None
    unallocated: list[int] | None = None
    attributes: list[AllocationAttribute] | None = None
    sequence_number: int | None = None
    sequence_number_for_allocation: dict[str, int] | None = None
    deleted: bool | None = None
    host_affinity: str | None = None


class IPAMBlock(IpamResource):
    """A block of addresses."""

    KIND: ClassVar[str] = "IPAMBlock"
    metadata: Metadata = Metadata()
    spec: IPAMBlockSpec

    @property
    def key(self) -> Key:
        return Key(self.KIND, str(self.spec.cidr))

    @property
    def node(self) -> str | None:
        """The node the block is affine to, if any."""
        affinity = self.spec.affinity or ""
        return affinity.removeprefix("host:") if affinity.startswith("host:") else None

    @classmethod
    def spec_of_key(cls, key: Key) -> dict[str, Any]:
        return {"cidr": str(read_network(key.name))}


class IPAMHandleSpec(Model):
    """How many addresses of each block one owner holds."""

    handle_id: Annotated[str, AfterValidator(part_of_key)] = Field(alias="handleID")
    block: dict[str, int] | None = None
    deleted: bool | None = None


class IPAMHandle(IpamResource):
    """An owner of addresses."""

    KIND: ClassVar[str] = "IPAMHandle"
    KEY_FIELDS: ClassVar[frozenset[str]] = frozenset({"handleID"})
    metadata: Metadata = Metadata()
    spec: IPAMHandleSpec

    @property
    def key(self) -> Key:
        return Key(self.KIND, self.spec.handle_id)

    @classmethod
    def spec_of_key(cls, key: Key) -> dict[str, Any]:
        return {"handleID": key.name}


class IPAMConfigSpec(Model):
    """How addresses are assigned."""

    strict_affinity: bool | None = None
    auto_allocate_blocks: bool | None = None
    max_blocks_per_host: int | None = Field(None, ge=0)
    kube_virt_vm_address_persistence: str | None = Field(None, alias="kubeVirtVMAddressPersistence")


class IPAMConfig(IpamResource):
    """The one address-management configuration."""

    KIND: ClassVar[str] = "IPAMConfig"
    ETCD_NAMES: ClassVar[Mapping[str, str]] = {
        "strictAffinity": "strict_affinity",
        "autoAllocateBlocks": "auto_allocate_blocks",
    }
    metadata: Metadata = Metadata()
    spec: IPAMConfigSpec = IPAMConfigSpec()

    @property
    def key(self) -> Key:
        return Key(self.KIND, "default")


class IPAMConfigurationSpec(Model):
    """The same settings as ``IPAMConfigSpec``, in the words of Calico's API."""

    strict_affinity: bool | None = None
    auto_allocate_blocks: bool | None = None
    min_ip_reclaim_age_seconds: int | None = Field(None, alias="minIPReclaimAgeSeconds")
    max_blocks_per_host: int | None = Field(None, ge=0)
    kube_virt_vm_address_persistence: str | None = Field(None, alias="kubeVirtVMAddressPersistence")


class IPAMConfiguration(Resource):
    """What Calico's documentation has people write; named ``default``, and stored like every v3 kind."""

    KIND: ClassVar[str] = "IPAMConfiguration"
    metadata: NamedMetadata = NamedMetadata()
    spec: IPAMConfigurationSpec = IPAMConfigurationSpec()
