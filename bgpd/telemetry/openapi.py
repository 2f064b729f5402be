"""The HTTP interface described in OpenAPI 3.1, generated from the models in `schema`.

Served at /api/v1/openapi.json. The description is the contract: the tests ask every operation it lists with
generated parameters, and hold status, type and body against it.
"""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bgpd.telemetry import schema
from bgpd.telemetry.logging import LEVELS
from bgpd.telemetry.peer_query import SORTS
from bgpd.telemetry.status import PeerVerb

Json = dict[str, Any]

MODELS: dict[str, type[BaseModel]] = {
    "Status": schema.Status,
    "Peers": schema.Peers,
    "Routes": schema.Routes,
    "Plan": schema.Plan,
    "Events": schema.Events,
    "Graph": schema.Graph,
    "Samples": schema.Samples,
    "Failure": schema.Failure,
}
_TAG = "#/components/schemas/"
_ON_PEERS = {
    PeerVerb.ENABLE: "Start a session, also one barred for too many prefixes, or waiting because it flaps.",
    PeerVerb.DISABLE: "End a session, and refuse it until it is enabled or the service starts again.",
    PeerVerb.RESET: "End a session and begin it again at once.",
    PeerVerb.REFRESH: "Exchange all routes again over the same session (RFC 2918).",
}
_OFFSET: Json = {"type": "integer", "minimum": 0, "default": 0}


def _query(name: str, shape: Json, description: str) -> Json:
    return {"name": name, "in": "query", "required": False, "schema": shape, "description": description}


def _page(most: int) -> list[Json]:
    limit: Json = {"type": "integer", "minimum": 0, "maximum": most}
    return [
        _query("offset", _OFFSET, "How many to skip."),
        _query("limit", limit, f"How many at most; more than {most} counts as {most}."),
    ]


def _content(media: str, shape: Json) -> Json:
    return {media: {"schema": shape}}


def _model(name: str, description: str) -> Json:
    return {"description": description, "content": _content("application/json", {"$ref": _TAG + name})}


def _text(description: str) -> Json:
    return {"description": description, "content": _content("text/plain", {"type": "string"})}


def _get(id: str, summary: str, answer: Json, parameters: list[Json] | None = None) -> Json:
    responses = {
        "200": answer,
        **_REFUSALS,
        "503": _model("Failure", "Too many wait for such an answer already."),
    }
    if parameters:
        responses["400"] = _model("Failure", "A parameter has no such value; the text names it.")
    return {
        "get": {"operationId": id, "summary": summary, "parameters": parameters or [], "responses": responses}
    }


_REFUSALS: Json = {
    "401": _model("Failure", "The token is missing or wrong."),
    "403": _model("Failure", "The name asked for is not local, or another site's page asks."),
}


def description(software: str, most: int) -> Json:
    """The document; `software` is the version running, `most` the largest page."""
    _, definitions = models_json_schema(
        [(model, "serialization") for model in MODELS.values()], ref_template=_TAG + "{model}"
    )
    states = ["IDLE", "CONNECT", "ACTIVE", "OPENSENT", "OPENCONFIRM", "ESTABLISHED", "down"]
    peers = [
        *_page(most),
        _query("state", {"enum": states}, "Sessions in this state; 'down' is all but ESTABLISHED."),
        _query("kind", {"type": "string"}, "Sessions of this kind."),
        _query("search", {"type": "string"}, "Part of a name, address, AS, node, description or reason."),
        _query("sort", {"enum": [*SORTS, *(f"-{name}" for name in SORTS)]}, "Order; '-' for descending."),
    ]
    routes = [
        *_page(most),
        _query("direction", {"enum": ["in", "best", "out"]}, "As received, the Loc-RIB, as advertised."),
        _query("prefix", {"type": "string"}, "A prefix, or an address and the longest prefix that holds it."),
        _query("longer", {"enum": ["true", "false"]}, "Also what is more specific."),
        _query("family", {"enum": ["ipv4-unicast", "ipv6-unicast"]}, "Of one family."),
        _query("peer", {"type": "string"}, "Of one peer, by its name or address."),
    ]
    events = [
        _query("after", _OFFSET, "Events with a greater id."),
        _query("limit", {"type": "integer", "minimum": 0, "maximum": most}, "How many at most."),
    ]
    level = _query("level", {"enum": list(LEVELS)}, "The level.") | {"required": True}
    feed = _get(
        "events", "The last events; as text/event-stream a live feed.", _model("Events", "Events."), events
    )
    feed["get"]["responses"]["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    feed["get"]["responses"]["503"] = _model("Failure", "There are as many readers of live feeds as may be.")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Cairn's status interface",
            "version": software,
            "description": "Read-only but for what is a POST. Fields are only added within version 1.",
        },
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
        "paths": {
            "/healthz": _probe("healthz", "Do all parts of the service answer? Says what else is wrong."),
            "/readyz": _probe("readyz", "May traffic rely on it? Names the peer that is missing."),
            "/metrics": _get("metrics", "Prometheus exposition.", _text("The metrics.")),
            "/api/v1/status": _get("status", "Who, how, since when.", _model("Status", "The status.")),
            "/api/v1/peers": _get("peers", "Sessions.", _model("Peers", "Sessions."), peers),
            "/api/v1/graph": _get("graph", "The picture of the sessions.", _model("Graph", "The picture.")),
            "/api/v1/routes": _get("routes", "Routes, with reasons.", _model("Routes", "Routes."), routes),
            "/api/v1/plan": _get("plan", "The plan in force.", _model("Plan", "The plan.")),
            "/api/v1/samples": _get("samples", "The service's own numbers.", _model("Samples", "Numbers.")),
            "/api/v1/events": feed,
            "/api/v1/drain": _post(
                "drain",
                "Move traffic away and stay up: withdraw what is originated, or tell it as the last resort.",
            ),
            "/api/v1/undrain": _post("undrain", "Announce again as before the drain."),
            **{f"/api/v1/peers/{verb}": _on_peer(verb, what) for verb, what in _ON_PEERS.items()},
            "/api/v1/log-level": {
                "post": {
                    "operationId": "log-level",
                    "summary": "Log this and worse from now on, until it ends or is told otherwise.",
                    "parameters": [level],
                    "responses": {
                        "200": _model("Status", "The status, with the level now in force."),
                        "400": _model("Failure", "There is no such level; the text names those there are."),
                        **_REFUSALS,
                    },
                }
            },
        },
    }


def _post(id: str, summary: str) -> Json:
    answers = {"200": _model("Status", "The status, afterwards."), **_REFUSALS}
    return {"post": {"operationId": id, "summary": summary, "responses": answers}}


def _on_peer(verb: PeerVerb, summary: str) -> Json:
    text = {"type": "string"}
    made = _post(f"{verb}-peer", summary)
    made["post"]["parameters"] = [
        _query("peer", text, "Its name or address.") | {"required": True},
        _query("reason", text, "For the peer, where it is told one (RFC 9003), and for the log."),
    ]
    made["post"]["responses"] |= {
        "400": _model("Failure", "No peer is named."),
        "404": _model("Failure", "There is no such peer."),
        "501": _model("Failure", "An agent: its sessions follow the plan."),
    }
    return made


def _probe(id: str, summary: str) -> Json:
    return {
        "get": {
            "operationId": id,
            "summary": summary,
            "security": [{}],
            "responses": {"200": _text("Yes."), "503": _text("No, and why.")},
        }
    }
