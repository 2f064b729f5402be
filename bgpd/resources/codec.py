"""Between a stored value and a resource: what the datastore reads and writes.

A store is read leniently where nothing depends on it (unknown fields, missing ``kind``) and strictly where a
wrong value would become a wrong route. Whatever is not understood is carried and written again.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bgpd.resources.base import Resource
from bgpd.resources.bgp_configuration import BGPConfiguration
from bgpd.resources.bgp_filter import BGPFilter
from bgpd.resources.bgp_peer import BGPPeer
from bgpd.resources.cairn import CairnConfiguration, NodeLease, ServiceQuestion, ServiceReport
from bgpd.resources.errors import ResourceError, joined
from bgpd.resources.ip_pool import IPPool
from bgpd.resources.ipam import (
    BlockAffinity,
    IPAMBlock,
    IPAMConfig,
    IPAMConfiguration,
    IPAMHandle,
    IpamResource,
)
from bgpd.resources.keys import Key, etcd_key
from bgpd.resources.node import Node
from bgpd.resources.node_status import CalicoNodeStatus
from bgpd.resources.workload_endpoint import WorkloadEndpoint

MODELS: Mapping[str, type[Resource]] = MappingProxyType(
    {
        model.KIND: model
        for model in (
            Node,
            BGPConfiguration,
            BGPPeer,
            BGPFilter,
            IPPool,
            WorkloadEndpoint,
            BlockAffinity,
            IPAMBlock,
            IPAMHandle,
            IPAMConfig,
            IPAMConfiguration,
            CalicoNodeStatus,
            CairnConfiguration,
            NodeLease,
            ServiceReport,
            ServiceQuestion,
        )
    }
)


def decode(key: Key, value: bytes) -> Resource:
    """Read a stored value. Raises ``ResourceError`` naming the etcd key and the field.

    A NodeLease says what it has to by being there, whatever a later version writes into it.
    """
    try:
        return _decoded(key, value)
    except ResourceError:
        if key.kind != NodeLease.KIND:
            raise
        return _decoded(key, b"")


def _decoded(key: Key, value: bytes) -> Resource:
    model = MODELS.get(key.kind)
    if model is None:
        raise ResourceError(str(key), f"no kind is named {key.kind!r}")
    try:
        data = json.loads(value) if value.strip() else {}
    except (ValueError, RecursionError) as error:
        raise ResourceError(
            _path(key), f"the stored value is not JSON: {error}", "write it again, or delete it"
        ) from None
    if not isinstance(data, dict):
        raise ResourceError(_path(key), f"the stored value is a JSON {type(data).__name__}, not an object")
    try:
        document = (
            model.from_etcd(key, data) if issubclass(model, IpamResource) else _completed(key, model, data)
        )
        resource = model.model_validate(document, by_alias=True, by_name=False)
    except ValidationError as error:
        raise joined(errors_of(error, _path(key))) from None
    except ValueError as error:
        raise ResourceError(_path(key), str(error)) from None
    if resource.key != key:
        raise ResourceError(
            _path(key), f"the stored value says it is {resource.key}", "store it under its own key"
        )
    return resource


def encode(resource: Resource) -> bytes:
    """Write a resource as its stored value: only what was set, and all that was not understood."""
    data = resource.to_etcd() if isinstance(resource, IpamResource) else to_document(resource)
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def to_document(resource: Resource) -> dict[str, Any]:
    """Give the resource as a document for files and displays: JSON types, ``apiVersion`` and ``kind``
    first.
    """
    dumped = resource.model_dump(mode="json", exclude_unset=True)
    return {"apiVersion": dumped.get("apiVersion", resource.API_VERSION), "kind": resource.KIND} | dumped


def errors_of(error: ValidationError, place: str) -> list[ResourceError]:
    """Translate pydantic's report: one error per fault, at ``place: field.path``."""
    return [
        ResourceError(f"{place}: {field_path(detail['loc'])}" if detail["loc"] else place, message_of(detail))
        for detail in error.errors(include_url=False)
    ]


def message_of(detail: ErrorDetails) -> str:
    """Put one of pydantic's findings into our words."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "value_error":
        return str(context.get("error", detail["msg"]))
    if kind == "missing":
        return "is required"
    if kind == "literal_error":
        return f"is {detail['input']!r}, but must be one of {context['expected']}"
    if kind == "model_type":
        return "fields are expected here, each a name and a value"  # not what was given: it may be a password
    if kind == "list_type":
        return f"a list is expected here, not {detail['input']!r}"[:300]
    if kind == "string_type":
        quotes = "; put it in quotes" if isinstance(detail["input"], int | float) else ""
        return f"text is expected here, not {detail['input']!r}"[:200] + quotes
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}, not {detail['input']!r}"[:300]


def field_path(location: tuple[int | str, ...]) -> str:
    """Write a location as ``spec.filters[0]``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _completed(key: Key, model: type[Resource], data: dict[str, Any]) -> dict[str, Any]:
    kind = data.get("kind")
    if kind not in (None, "", key.kind):
        raise ValueError(f"the stored value is a {kind}")
    metadata = data.get("metadata")
    metadata = dict(metadata) if isinstance(metadata, dict) else {}
    metadata.setdefault("name", key.name)
    if key.namespace:
        metadata.setdefault("namespace", key.namespace)
    return {
        **data,
        "apiVersion": data.get("apiVersion") or model.API_VERSION,
        "kind": key.kind,
        "metadata": metadata,
    }


def _path(key: Key) -> str:
    try:
        return etcd_key(key)
    except ValueError:
        return str(key)
