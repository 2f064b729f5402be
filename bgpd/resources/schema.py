"""JSON Schemas for editors: one for each kind, and one for any document of ours."""

from typing import Any

from bgpd.resources.codec import MODELS
from bgpd.resources.errors import ResourceError

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(kind: str) -> dict[str, Any]:
    """Give the JSON Schema of one kind's documents, refusing unknown fields as files do.

    Raises ``ResourceError`` for an unknown kind.
    """
    if kind not in MODELS:
        raise ResourceError(kind, "unknown kind", f"known: {', '.join(sorted(MODELS))}")
    model = MODELS[kind]
    schema = model.model_json_schema(by_alias=True)
    _close(schema)
    for part in schema.get("$defs", {}).values():
        _close(part)
    schema["properties"]["kind"] = {"const": kind}
    schema["properties"]["apiVersion"] = {"const": model.API_VERSION}
    required = ["apiVersion", "kind", *(name for name in schema.get("required", ()))]
    return {"$schema": _DIALECT, "title": kind, **schema, "required": required}


def documents_schema() -> dict[str, Any]:
    """Give one JSON Schema that accepts a document of any kind, for editors that map a schema to
    ``*.yaml``.
    """
    definitions: dict[str, Any] = {}
    for kind in MODELS:
        schema = json_schema(kind)
        definitions.update(schema.pop("$defs", {}))
        schema.pop("$schema")
        definitions[kind] = schema
    choices = [{"$ref": f"#/$defs/{kind}"} for kind in MODELS]
    return {"$schema": _DIALECT, "title": "Cairn resources", "oneOf": choices, "$defs": definitions}


def _close(schema: dict[str, Any]) -> None:
    if schema.get("additionalProperties") is True and "properties" in schema:
        metadata = "creationTimestamp" in schema["properties"]
        schema["additionalProperties"] = metadata
