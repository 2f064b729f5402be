"""Files of resources: several YAML or JSON documents, read strictly and with line numbers.

A file is written by a person, so everything not understood is refused: an unknown kind or field with its line
and the nearest known name, a key given twice with two values, a value out of range. (What a *store* holds may
come from a newer Calico and is kept; see ``codec``.)

Plain YAML scalars are read by the YAML 1.2 core rules, not PyYAML's 1.1 ones: ``65000:100`` is text and not a
base-60 number, ``on`` and ``no`` are words, dates stay text. A number where text belongs is the text that was
written (``name: 007``). ``calicoctl get -o yaml`` lists are expanded.
"""

import json
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from bgpd.resources.base import CAIRN_API_VERSION, CALICO_API_VERSION, Resource, models_in
from bgpd.resources.codec import MODELS, errors_of, field_path, to_document
from bgpd.resources.elsewhere import ELSEWHERE, left_elsewhere
from bgpd.resources.errors import ResourceError, joined
from bgpd.resources.workload_endpoint import WorkloadEndpoint

Place = tuple[int | str, ...]

_INTEGER = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
# A label is text however it is written, and Calico's reader has YAML 1.1's words for it.
_LABELS: frozenset[Place] = frozenset({("metadata", "labels"), ("metadata", "annotations")})
_LABEL_WORDS = {
    "yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false",
    "~": "", "null": "",
}  # fmt: skip
_MAX_DEPTH = 64
_MOST_SURELY_SHALLOW = 4000  # levels that no stack is too small for
_MOST_VALUES_PER_CHARACTER = 10
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_documents(text: str, source: str) -> list[Resource]:
    """Read every resource of a file. ``source`` is the file's name for messages.

    Raises ``ResourceError`` at ``source:line``, with all further faults of the file in ``also``.
    """
    faults: list[ResourceError] = []
    resources: list[Resource] = []
    seen: dict[tuple[str, str, str], int] = {}
    for data, lines in _documents(text, source):
        try:
            resource = _resource(data, lines, source)
        except ResourceError as fault:
            faults.append(fault)
            continue
        line = lines.get((), 1)
        if resource.key in seen:
            faults.append(
                ResourceError(
                    f"{source}:{line}",
                    f"{resource.key} was already given on line {seen[resource.key]}",
                    "keep one",
                )
            )
            continue
        seen[resource.key] = line
        resources.append(resource)
    if faults:
        raise joined(faults)
    return resources


def dump_documents(resources: list[Resource]) -> str:
    """Write resources as a YAML file that ``load_documents`` reads back."""
    documents = map(to_document, resources)
    return str(yaml.dump_all(documents, Dumper=YamlDumper, sort_keys=False, allow_unicode=True, width=110))


class _Integer(int):
    """A number that knows how it was written, for where text belongs: pydantic asks it."""

    written: str

    def __str__(self) -> str:
        return self.written


class _Float(float):
    """See `_Integer`."""

    written: str

    def __str__(self) -> str:
        return self.written


class YamlDumper(yaml.SafeDumper):
    """Quotes what the plain dumper leaves bare: odd ends of lines, and what YAML 1.2 reads as a number."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if _LINE_ENDS.search(text) or _scalar(text) is not text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_LINE_ENDS = re.compile("[\x85\u2028\u2029\ufeff]")
YamlDumper.add_representer(str, _text)


def _documents(text: str, source: str) -> Iterator[tuple[Any, dict[Place, int]]]:
    """Give each document (each item of a list) as plain values, with the line of every place in it."""
    whole: Any = None
    if text.lstrip()[:1] in ("{", "["):
        # JSON allows tabs between tokens and YAML does not; inside a JSON string none can stand.
        text = text.replace("\t", " ")
        try:
            whole = json.loads(text, parse_float=_scalar)
        except (ValueError, RecursionError):
            whole = None
    try:
        if whole is None and _may_be_deep(text):  # composing takes the processor's stack at every level
            _be_shallow(text, source)
        roots = list(yaml.compose_all(text, Loader=_LOADER))
    except ResourceError:
        raise
    except yaml.MarkedYAMLError as error:
        if whole is not None:  # YAML lacks some of JSON's escapes; only the lines are lost
            for item in _items_of(whole):
                yield item, {}
            return
        mark = error.problem_mark or error.context_mark
        problem = f"{error.context or ''} {error.problem or ''}".strip()
        if (
            mark is not None
            and text.splitlines()[mark.line : mark.line + 1]
            and "\t" in text.splitlines()[mark.line]
        ):
            problem += "; there is a tab, and YAML is indented with spaces"
        place = f"{source}:{mark.line + 1 if mark else 1}"
        raise ResourceError(place, f"not readable as YAML: {problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ResourceError(source, f"not readable as YAML: {error}") from None
    reader = _Reader(source, limit=_MOST_VALUES_PER_CHARACTER * len(text) + 100)
    for root in roots:
        for index, node in enumerate(_item_nodes(root)):
            lines: dict[Place, int] = {}
            data = reader.plain(node, (), lines)
            if whole is not None and len(roots) == 1:
                data = _items_of(whole)[index]
            if data is not None:
                yield data, lines


def _may_be_deep(text: str) -> bool:
    """Whether a text can nest thousands of levels: by its brackets, or by columns, in one of its lines."""
    brackets = text.count("[") + text.count("{")
    return max(brackets, max(map(len, text.splitlines()), default=0)) > _MOST_SURELY_SHALLOW


def _be_shallow(text: str, source: str) -> None:
    """Raises ``ResourceError`` where a text nests too deep; reading its events takes no stack."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MOST_SURELY_SHALLOW:
            mark = event.start_mark
            line = mark.line + 1 if mark else 1
            raise ResourceError(f"{source}:{line}", f"nested deeper than {_MAX_DEPTH} levels")


def _items_of(data: Any) -> list[Any]:
    if isinstance(data, list):
        return data
    if (
        isinstance(data, dict)
        and str(data.get("kind", "List")).endswith("List")
        and isinstance(data.get("items"), list)
    ):
        return list(data["items"])
    return [data]


def _item_nodes(root: yaml.Node) -> list[yaml.Node]:
    """Give the nodes of ``_items_of`` what ``root`` stands for."""
    if isinstance(root, yaml.SequenceNode):
        return list(root.value)
    if isinstance(root, yaml.MappingNode):
        fields = {str(name.value): value for name, value in root.value if isinstance(name, yaml.ScalarNode)}
        kind, items = fields.get("kind"), fields.get("items")
        is_list = kind is None or (isinstance(kind, yaml.ScalarNode) and str(kind.value).endswith("List"))
        if is_list and isinstance(items, yaml.SequenceNode):
            return list(items.value)
    return [root]


class _Reader:
    """Turns YAML nodes into plain values, noting the line of each; ``limit`` bounds what aliases multiply."""

    def __init__(self, source: str, limit: int) -> None:
        self._source = source
        self._left = limit

    def plain(self, node: yaml.Node, place: Place, lines: dict[Place, int]) -> Any:
        line = node.start_mark.line + 1
        lines.setdefault(place, line)
        self._left -= 1
        if len(place) > _MAX_DEPTH or self._left < 0:
            what = (
                f"nested deeper than {_MAX_DEPTH} levels"
                if self._left >= 0
                else "aliases multiply beyond reason"
            )
            raise ResourceError(f"{self._source}:{line}", what)
        if isinstance(node, yaml.ScalarNode):
            if node.style:
                return str(node.value)
            return _label(node.value) if place[:-1] in _LABELS else _scalar(node.value)
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(item, (*place, index), lines) for index, item in enumerate(node.value)]
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ResourceError(f"{self._source}:{key_line}", "a field's name must be plain text")
            name = str(key_node.value)
            value = self.plain(value_node, (*place, name), lines)
            if mapping.get(name, value) != value:
                raise ResourceError(f"{self._source}:{key_line}", f"{name} is given twice", "keep one")
            lines[(*place, name)] = key_line
            mapping[name] = value
        return mapping


def _scalar(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text) and len(text) <= 100:
        integer = _Integer(text, 0) if text[:2] in ("0x", "0o") else _Integer(text)
        integer.written = text
        return integer
    if _FLOAT.fullmatch(text):
        number = _Float(text)
        number.written = text
        return number
    return text


def _label(text: str) -> str:
    return _LABEL_WORDS.get(text.lower(), text)


def _resource(data: Any, lines: dict[Place, int], source: str) -> Resource:
    top = f"{source}:{lines.get((), 1)}"
    if not isinstance(data, dict):
        raise ResourceError(top, "not a resource", "a document has apiVersion, kind, metadata and spec")
    kind, version = data.get("kind"), data.get("apiVersion")
    model = MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        where = f"{source}:{lines.get(('kind',), lines.get((), 1))}"
        if not kind:
            raise ResourceError(where, "kind is required", f"known here: {', '.join(sorted(MODELS))}")
        if str(kind) in ELSEWHERE:
            raise ResourceError(where, left_elsewhere(str(kind)), "apply it with calicoctl or kubectl")
        if isinstance(version, str) and version not in (CALICO_API_VERSION, CAIRN_API_VERSION):
            named = str(kind).lower()
            if all(named != known.lower() for known in MODELS):
                raise ResourceError(where, f"{kind} ({version}) is no resource of Calico's", _others(named))
        raise ResourceError(where, f"unknown kind {kind!r}", _nearest(str(kind), MODELS))
    if version != model.API_VERSION:
        where = f"{source}:{lines.get(('apiVersion',), lines.get((), 1))}"
        raise ResourceError(where, f"apiVersion of {kind} is {version!r}", f"write {model.API_VERSION}")
    metadata = data.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    title = f"{kind} {name}" if name else str(kind)
    faults = [
        ResourceError(
            _at(place, lines, source, title), f"unknown field {place[-1]}", _nearest(str(place[-1]), known)
        )
        for place, known in _unknown_fields(model, data, ())
    ]
    try:
        resource = model.model_validate(data, by_alias=True, by_name=False)
    except ValidationError as error:
        raise joined([*faults, *_with_lines(errors_of(error, ""), error, title, lines, source)]) from None
    if isinstance(resource, WorkloadEndpoint):
        faults.extend(_endpoint_faults(resource, lines, source, title))
        resource = _named(resource)
    if (
        resource.metadata.name == "unnamed"
        and resource.key.name == "unnamed"
        and "name" not in (metadata or {})
    ):
        faults.append(ResourceError(top, f"{kind}: metadata.name is required"))
    if faults:
        raise joined(faults)
    return resource


def _with_lines(
    errors: list[ResourceError], report: ValidationError, title: str, lines: dict[Place, int], source: str
) -> Iterator[ResourceError]:
    for error, detail in zip(errors, report.errors(include_url=False), strict=True):
        yield ResourceError(_at(detail["loc"], lines, source, title), error.what, error.remedy)


def _at(place: Place, lines: dict[Place, int], source: str, title: str) -> str:
    known = place
    while known and known not in lines:
        known = known[:-1]
    path = field_path(place)
    return f"{source}:{lines.get(known, 1)}: {title}" + (f": {path}" if path else "")


def _unknown_fields(model: type[BaseModel], data: object, place: Place) -> Iterator[tuple[Place, list[str]]]:
    """Give the fields of a document that its model does not have, whatever else is wrong with it."""
    if isinstance(data, list):
        for index, item in enumerate(data):
            yield from _unknown_fields(model, item, (*place, index))
    if not isinstance(data, dict):
        return
    fields = {str(field.alias or name): field for name, field in model.model_fields.items()}
    for name, value in data.items():
        if name in fields:
            for part in models_in(fields[name].annotation):
                yield from _unknown_fields(part, value, (*place, name))
        # Kubernetes puts more into metadata than anything here reads; that is no mistake of a file's author.
        elif place != ("metadata",):
            yield (*place, name), list(fields)


def _endpoint_faults(
    endpoint: WorkloadEndpoint, lines: dict[Place, int], source: str, title: str
) -> Iterator[ResourceError]:
    composed, given = endpoint.composed_name, endpoint.metadata.name
    if "name" in endpoint.metadata.model_fields_set and composed and given != composed:
        yield ResourceError(
            _at(("metadata", "name"), lines, source, title),
            f"{given!r} is not the name made of its node, orchestrator, workload and endpoint",
            f"write {composed}, or leave the name out",
        )


def _named(endpoint: WorkloadEndpoint) -> WorkloadEndpoint:
    if "name" in endpoint.metadata.model_fields_set or endpoint.composed_name is None:
        return endpoint
    metadata = endpoint.metadata.model_copy(update={"name": endpoint.composed_name})
    return endpoint.model_copy(update={"metadata": metadata})


def _others(kind: str) -> str:
    """Where what is Kubernetes' or an operator's belongs."""
    if kind == "secret":
        return "passwords are files here, NAME/KEY, in the services' `secrets.directory`; leave it out"
    return "apply it with kubectl, and leave it out here"


def _nearest(name: str, known: Mapping[str, object] | list[str]) -> str:
    by_lower = {item.lower(): item for item in known}
    found = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    if found:
        return f"did you mean {by_lower[found[0]]}?"
    return f"known here: {', '.join(sorted(known))}"
