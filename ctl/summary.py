"""How a change is told: resource by resource, then node by node, as lines for people or as a document."""

from collections.abc import Sequence

from ctl.consequences import Consequences, NodeConsequences
from ctl.edits import Edit, Verb

_SIGNS = {Verb.CREATE: "+", Verb.CHANGE: "~", Verb.KEEP: " ", Verb.DELETE: "-"}


def lines(edits: Sequence[Edit], effect: Consequences) -> list[str]:
    """The change as text."""
    told = []
    for edit in edits:
        told.append(f"{_SIGNS[edit.verb]} {edit.key}{'  (unchanged)' if edit.verb is Verb.KEEP else ''}")
        told += [f"    {field}" for field in edit.fields]
    for node in effect.nodes:
        told.append(f"on {node.node}:")
        told += [f"  {line}" for line in _of_node(node)]
    if not effect.nodes:
        told.append("no session and no route changes on any node")
    return told


def _of_node(node: NodeConsequences) -> list[str]:
    told = [f"cannot be planned: {node.failed}"] if node.failed else []
    told += [f"+ session to {p.peer_address} AS {p.peer_asn} ({p.reason})" for p in node.appear]
    told += [f"- session to {p.peer_address} AS {p.peer_asn} ({p.reason})" for p in node.vanish]
    for change in node.change:
        verb = "session bounces" if change.bounces else "policy changes, the session stays"
        told.append(f"~ {verb}: {change.after.peer_address} ({', '.join(change.fields)})")
    told += [f"+ announces {route.prefix} ({route.reason})" for route in node.announced]
    told += [f"- withdraws {route.prefix} ({route.reason})" for route in node.withdrawn]
    told += [f"~ announces {route.prefix} with other attributes ({route.reason})" for route in node.altered]
    return told


def document(edits: Sequence[Edit], effect: Consequences) -> dict[str, object]:
    """The change as a document."""
    return {
        "resources": [
            {
                "kind": edit.key.kind,
                "name": edit.key.name,
                **({"namespace": edit.key.namespace} if edit.key.namespace else {}),
                "action": edit.verb,
                "fields": list(edit.fields),
            }
            for edit in edits
        ],
        "sessionsDropped": effect.drops,
        "nodes": [
            {
                "node": node.node,
                "error": node.failed or None,
                "sessionsAppear": [
                    {"peer": p.peer_address, "asn": p.peer_asn, "reason": p.reason} for p in node.appear
                ],
                "sessionsVanish": [
                    {"peer": p.peer_address, "asn": p.peer_asn, "reason": p.reason} for p in node.vanish
                ],
                "sessionsChange": [
                    {"peer": c.after.peer_address, "bounces": c.bounces, "fields": list(c.fields)}
                    for c in node.change
                ],
                "announced": [route.prefix for route in node.announced],
                "withdrawn": [route.prefix for route in node.withdrawn],
                "altered": [route.prefix for route in node.altered],
            }
            for node in effect.nodes
        ],
    }
