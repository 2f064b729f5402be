"""What the configuration files of all services have in common: how they are read, and how a service is seen.

Names are camelCase in a file, as in the resources. A word nobody knows is an error, not a line without
effect; an error names the file, the place in it, and what would be right.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

Port = Annotated[int, Field(ge=0, le=65535)]
LogLevel = Literal["debug", "info", "warning", "error"]


class ConfigError(Exception):
    """A configuration that can't be used: the place, what is wrong, and what would be right."""


@contextlib.contextmanager
def naming(path: Path | None) -> Iterator[None]:
    """What cannot be used of the configuration within is said of this file, if it is one's."""
    try:
        yield
    except ConfigError as error:
        text = str(error)
        if path is None or text.startswith(str(path)):
            raise
        raise ConfigError(f"{path}: {text}") from error


class Model(BaseModel):
    """A mapping of a configuration file."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class SecretSource(Model):
    """Where a secret is read: exactly one of a file and an environment variable; a path alone is a file."""

    file: Path | None = None
    env: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _path(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise ValueError("give exactly one of 'file' and 'env'")
        return self

    @property
    def place(self) -> str:
        """Where that is, for messages."""
        return f"file {self.file}" if self.file is not None else f"environment variable {self.env}"

    def read(self, environ: Mapping[str, str]) -> str:
        """The secret; raises ConfigError, never gives an empty one."""
        if self.file is None:
            text = environ.get(self.env or "", "")
        else:
            try:
                text = self.file.read_text().rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                why = error.strerror if isinstance(error, OSError) else "not text"
                raise ConfigError(f"{self.place}: {why}") from error
        if not text:
            raise ConfigError(f"{self.place} is empty or missing")
        return text


class Http(Model):
    """The status interface. Another address than this machine's own wants a token and TLS."""

    address: IPv4Address | IPv6Address = IPv4Address("127.0.0.1")
    port: Port
    token: SecretSource | None = None
    certificate: Path | None = None
    key: Path | None = None


class Mqtt(Model):
    """The broker that status and events are published to; with `ca` over TLS."""

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 1883
    username: str | None = None
    password: SecretSource | None = None
    ca: Path | None = None
    prefix: str = "cairn"

    @field_validator("host")
    @classmethod
    def _a_host(cls, value: str) -> str:
        try:
            ip_address(value)
        except ValueError:
            if not _is_host_name(value):
                what = f"{value!r} is no host name or address (without mqtt:// and port)"
                raise ValueError(what) from None
        return value

    @field_validator("prefix")
    @classmethod
    def _a_topic(cls, value: str) -> str:
        if not value or not value.isprintable() or any(character in "#+" for character in value):
            raise ValueError(f"{value!r} is no topic to publish below: neither empty nor with '#' or '+'")
        return value


def _is_host_name(text: str) -> bool:
    try:
        labels = text.removesuffix(".").encode("idna").decode().split(".")
    except UnicodeError:
        return False
    return all(re.fullmatch("[A-Za-z0-9_-]{1,63}", label) for label in labels)


M = TypeVar("M", bound=Model)
_SHAPES = {  # faults that pydantic tells in Python's words
    "tuple_type": "a list is expected here",
    "model_type": "fields are expected here, each a name and a value",
}


def read(path: Path, model: type[M], example: str) -> M:
    """A configuration file as its model; an empty file is an empty mapping. Raises ConfigError."""
    try:
        document = _document(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give the path of a readable file") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply to be a configuration") from error
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected a mapping such as '{example}', found {type(document).__name__}")
    try:
        return model.model_validate(document, by_alias=True, by_name=False)
    except ValidationError as error:
        problems = "; ".join(f"{_where(item['loc'])}: {_what(item, model)}" for item in error.errors())
        raise ConfigError(f"{path}: {problems}") from error


def _document(path: Path) -> Any:
    """What the file says. Where a name is given twice, YAML would have the last one win: ConfigError."""
    loader = yaml.SafeLoader(path.read_text())
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _refuse_repeated(root, path, set())
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _refuse_repeated(node: yaml.Node, path: Path, seen: set[yaml.Node]) -> None:
    if not isinstance(node, yaml.CollectionNode) or node in seen:
        return
    seen.add(node)
    names: set[str] = set()
    for item in node.value:
        if not isinstance(node, yaml.MappingNode):
            _refuse_repeated(item, path, seen)
            continue
        name, value = item
        if isinstance(name, yaml.ScalarNode):
            if name.value in names:
                raise ConfigError(f"{path}:{name.start_mark.line + 1}: {name.value} is given twice; keep one")
            names.add(name.value)
        _refuse_repeated(value, path, seen)


def _what(fault: ErrorDetails, model: type[Model]) -> str:
    """What is wrong there; of a word that is not known the nearest one of the file's."""
    if fault["type"] != "extra_forbidden":
        return _SHAPES.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
    schema = model.model_json_schema()
    words = [
        word for part in (schema, *schema.get("$defs", {}).values()) for word in part.get("properties", ())
    ]
    unknown = str(fault["loc"][-1])
    if unknown in words:
        return "unknown word here; it belongs to another part of the file"
    near = get_close_matches(unknown, words, n=1)
    return f"unknown word; did you mean {near[0]}?" if near else "unknown word"


def _where(location: tuple[int | str, ...]) -> str:
    """The place as a person writes it, without the types that were tried there."""
    text = ""
    for step in location:
        if isinstance(step, int):
            text += f"[{step}]"
        elif not (step[:1].isupper() or "[" in step or step.startswith("function")):
            text += f".{step}" if text else step
    return text or "the file"
