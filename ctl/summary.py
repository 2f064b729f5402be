"""How a change is told: resource by resource, then node by node, as lines for people or as a document.

What a change does to the nodes is `bgpd.plan.diff`'s to say; here it is only put into words.
"""

import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence

import typer

from bgpd.plan.diff import Change, PlanDiff, SessionChange
from ctl.edits import Edit, Verb
from ctl.output import Format, as_json, as_yaml
from ctl.terminal import visible

_SIGNS = {Verb.CREATE: "+", Verb.CHANGE: "~", Verb.KEEP: " ", Verb.DELETE: "-"}
_WORDS = {
    Change.APPEARS: "+ session to {0}",
    Change.VANISHES: "- session to {0}",
    Change.BOUNCES: "~ session to {0} bounces",
    Change.ADJUSTED: "~ session to {0} changes and stays up",
    Change.ANNOUNCED: "+ announces {0}",
    Change.WITHDRAWN: "- withdraws {0}",
    Change.ALTERED: "~ announces {0} with other attributes",
}
_NAMED = 20  # changes of one kind on one node, where not all are asked for


def dropped(effect: Sequence[PlanDiff]) -> int:
    """How many ends of sessions go down, for good or for a moment."""
    return sum(
        change.change in (Change.VANISHES, Change.BOUNCES) for node in effect for change in node.sessions
    )


def lines(edits: Sequence[Edit], effect: Sequence[PlanDiff], *, whole: bool) -> list[str]:
    """The change as text; unless `whole`, of many changes of one kind on a node only the first."""
    told = []
    for edit in edits:
        told.append(f"{_SIGNS[edit.verb]} {edit.key}{'  (unchanged)' if edit.verb is Verb.KEEP else ''}")
        told += [f"    {field}" for field in edit.fields]
    for node in effect:
        told.append(f"on {node.node}:")
        told += [f"  {line}" for line in _of_node(node, whole)]
    if not effect:
        told.append("no session and no route changes on any node")
    return [visible(line) for line in told]


def _of_node(node: PlanDiff, whole: bool) -> list[str]:
    told = [f"cannot be planned: {node.error}"] if node.error else []
    told += _named(
        [
            (s.change, f"{_WORDS[s.change].format(_peer(s))} ({', '.join(s.fields) or s.reason})")
            for s in node.sessions
        ]
        + [(r.change, f"{_WORDS[r.change].format(r.prefix)} ({r.reason})") for r in node.routes],
        whole,
    )
    told += [
        f"~ {f.direction} policy{f' of {f.session}' if f.session else ''}: {f.what}" for f in node.filters
    ]
    return told


def _named(changes: Sequence[tuple[Change, str]], whole: bool) -> Iterator[str]:
    """The changes' lines, and how many are left out."""
    counts = Counter[Change]()
    for change, line in changes:
        counts[change] += 1
        if whole or counts[change] <= _NAMED:
            yield line
    for change, count in counts.items():
        if not whole and count > _NAMED:
            yield _WORDS[change].format(f"{count - _NAMED} more, which `-o wide` names")


def _peer(session: SessionChange) -> str:
    at = f"{session.peer_address}" + (f" port {session.peer_port}" if session.peer_port != 179 else "")
    return f"{session.peer_node} at {at}" if session.peer_node else at


def tell(edits: Sequence[Edit], effect: Sequence[PlanDiff], form: Format) -> None:
    """Print the change as it is wanted."""
    match form:
        case Format.JSON:
            print(as_json(document(edits, effect)))
        case Format.YAML:
            print(as_yaml(document(edits, effect)), end="")
        case _:
            print("\n".join(lines(edits, effect, whole=form is Format.WIDE)))


def agreed(effect: Sequence[PlanDiff], verb: str, at_terminal: bool | None = None) -> bool:
    """Whether the operator agrees to lose sessions; not asked if none drops, or away from a terminal."""
    if not dropped(effect) or not (sys.stdin.isatty() if at_terminal is None else at_terminal):
        return True
    former = signal.signal(signal.SIGINT, signal.default_int_handler)  # asyncio's waits for the answer
    try:
        return typer.confirm(f"{dropped(effect)} sessions would drop. {verb}?", default=False, err=True)
    finally:
        signal.signal(signal.SIGINT, former)


def document(edits: Sequence[Edit], effect: Sequence[PlanDiff]) -> dict[str, object]:
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
        "sessionsDropped": dropped(effect),
        "nodes": [
            {
                "node": node.node,
                "error": node.error,
                "sessions": [
                    {
                        "change": session.change,
                        "name": session.name,
                        "peerAddress": session.peer_address,
                        "peerPort": session.peer_port,
                        "peerNode": session.peer_node,
                        "fields": list(session.fields),
                        "reason": session.reason,
                    }
                    for session in node.sessions
                ],
                "routes": [route._asdict() for route in node.routes],
                "filters": [change._asdict() for change in node.filters],
            }
            for node in effect
        ],
    }
