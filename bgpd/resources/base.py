"""What all resources have in common: the document's shape, its metadata, and the care for what we do not
know.

Every model keeps fields it does not declare (``extra="allow"``) and writes them again untouched, at every
depth, so that a newer Calico's fields survive our writing. Only what was set is written: a default is never
made explicit in someone else's resource. Files are stricter than stores: see ``documents``.
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from bgpd.resources.keys import Key
from bgpd.resources.scalars import Name, read_name

CALICO_API_VERSION = "projectcalico.org/v3"
CAIRN_API_VERSION = "cairn.dev/v1"
ANNOTATIONS = "cairn.dev/"


class Model(BaseModel):
    """A frozen value, camelCase outside and snake_case inside; unknown fields are kept."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
        coerce_numbers_to_str=True,
    )


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Give the models that a field's type is made of, below lists and alternatives."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


def part_of_key(value: str) -> str:
    """Check a name that is less strict than `Name`. Raises ``ValueError``."""
    if not value or "/" in value or not value.isprintable() or len(value) > 512:
        raise ValueError(
            f"{value!r} is no name: it would be a part of a datastore key, so neither empty nor with '/'"
        )
    return value


def _namespace(value: str) -> str:
    return read_name(value) if value else value


class Metadata(Model):
    """Calico's (Kubernetes') object metadata, as far as anything here reads it."""

    name: Annotated[str, AfterValidator(part_of_key)] = "unnamed"
    namespace: Annotated[str, AfterValidator(_namespace)] | None = None
    uid: str | None = None
    resource_version: str | None = None
    creation_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None

    @property
    def label_map(self) -> dict[str, str]:
        """The labels; empty when there are none."""
        return self.labels or {}

    def annotation(self, name: str) -> str | None:
        """Give the value of our annotation ``cairn.dev/<name>``."""
        return (self.annotations or {}).get(ANNOTATIONS + name)


class NamedMetadata(Metadata):
    """Metadata of kinds whose name follows the rules for names."""

    name: Name = "unnamed"


class SecretKeyRef(Model):
    """Which entry (``key``) of which secret (``name``) holds a value; never the value itself."""

    name: str = Field(min_length=1, max_length=253)
    key: str = Field(min_length=1, max_length=253)
    optional: bool | None = None


class Password(Model):
    """A TCP MD5 password by reference. What it refers to has at most 80 characters, which is checked when it
    is read.
    """

    secret_key_ref: SecretKeyRef | None = None


class Resource(Model):
    """One declared object: ``apiVersion``, ``kind``, ``metadata`` and a kind's own ``spec``."""

    KIND: ClassVar[str] = ""
    API_VERSION: ClassVar[str] = CALICO_API_VERSION

    api_version: str = CALICO_API_VERSION
    kind: str = ""
    metadata: Metadata = Metadata()
    spec: Any = None

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("spec", value) is None:
            return {name: item for name, item in value.items() if name != "spec"}
        return value

    @property
    def key(self) -> Key:
        """The identity under which this is stored."""
        return Key(self.KIND, self.metadata.name)

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def labels(self) -> dict[str, str]:
        return self.metadata.label_map
