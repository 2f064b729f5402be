"""Writes what can be said from the code alone: docs/reference/ and docs/man/.

Commands from their own help, configuration and shapes from their models, metrics from what the services
register. Run it from the top of the project: `.venv/bin/python docs/reference.py`; a test holds the
committed pages against it.
"""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import models_json_schema

from agent.config import AgentConfig
from bgpd.datastore import Health
from bgpd.resources import documents_schema
from bgpd.resources.support import SUPPORT
from bgpd.telemetry import schema
from bgpd.telemetry.answers import MAX_LIMIT
from bgpd.telemetry.metrics import Metrics
from bgpd.telemetry.openapi import description
from bgpd.telemetry.status import EventRing, FamilyStatus, PeerStatus, ServiceStatus
from ctl.main import application
from reflector.config import ReflectorConfig
from reflector.waiting import WaitingStatus

TOP = Path(__file__).resolve().parent.parent
NOTE = "<!-- Written by docs/reference.py; edit the code it is made from. -->\n\n"
EXITS = "0 fine, 1 degraded or different, 2 wrong usage, 3 unreachable, 4 invalid."
KINDS = re.compile(r"[a-z]+\.[a-z_-]+")
MQTT: dict[str, type[BaseModel]] = {
    "Online": schema.Online,
    "Offline": schema.Offline,
    "PeerSummary": schema.PeerSummary,
    "Event": schema.Event,
}


def pages() -> dict[str, str]:
    """Every generated file, by its path below docs/."""
    made = {
        "reference/commands.md": commands(),
        "reference/configuration.md": configuration(),
        "reference/resources.md": resources(),
        "reference/resources.schema.json": json.dumps(documents_schema(), indent=1) + "\n",
        "reference/http.md": http(),
        "reference/openapi.json": json.dumps(description("version", MAX_LIMIT), indent=1) + "\n",
        "reference/mqtt.md": mqtt(),
        "reference/mqtt.schema.json": json.dumps(mqtt_schema(), indent=1) + "\n",
        "reference/metrics.md": metrics(),
    }
    made.update({f"man/{name}.1": text for name, text in manual().items()})
    return made


# Commands


def tree() -> Iterator[tuple[str, Any]]:
    """Every command with its full name, `cairn` itself first."""

    def below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield name, command
        for child, found in sorted(getattr(command, "commands", {}).items()):
            if not found.hidden:
                yield from below(f"{name} {child}", found)

    yield from below("cairn", typer.main.get_command(application(None)))


def options(command: Any) -> Iterator[tuple[str, str]]:
    """Arguments and options with what they are for."""
    for parameter in command.params:
        text = " ".join((parameter.help or "").split())
        if parameter.hidden or parameter.name in ("install_completion", "show_completion", "help"):
            continue
        if parameter.param_type_name == "argument":
            name = parameter.name.upper()
            yield (
                (name if parameter.required else f"[{name}]") + (" ..." if parameter.nargs == -1 else ""),
                text,
            )
            continue
        names = ", ".join(sorted(parameter.opts, key=len))
        if not parameter.is_flag:
            names += f" {parameter.metavar or _choices(parameter.default)}"
        default = getattr(parameter.default, "value", parameter.default)
        if isinstance(default, int | float | str) and not isinstance(default, bool) and default != "":
            text += f" Default: {default}."
        yield names, text


def _choices(default: object) -> str:
    if isinstance(default, Enum):
        return f"[{'|'.join(str(choice.value) for choice in type(default))}]"
    return "NUMBER" if isinstance(default, int | float) else "VALUE"


def about(command: Any) -> str:
    return inspect.cleandoc(command.help or command.short_help or "").replace("\b\n", "")


def example(command: Any) -> str:
    return (command.epilog or "").removeprefix("Example: ")


def commands() -> str:
    text = "# Commands\n\n" + NOTE
    text += f"Every command has `--help`. Exit codes: {EXITS}\n"
    for name, command in tree():
        text += f"\n## {name}\n\n{about(command)}\n"
        if example(command):
            text += f"\n    {example(command)}\n"
        rows = list(options(command))
        if rows:
            text += "\n| option | |\n|---|---|\n"
            text += "".join(f"| `{_cell(names)}` | {_cell(what)} |\n" for names, what in rows)
    return text


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def manual() -> dict[str, str]:
    """Manual pages, one per command, by name without the section."""
    made = {}
    every = list(tree())
    for name, command in every:
        page = name.replace(" ", "-")
        lines = [f'.TH "{page.upper()}" "1" "" "cairn" "User Commands"', ".SH NAME"]
        first = about(command).split("\n\n")[0].replace("\n", " ")
        lines += [rf"{_roff(page)} \- {_roff(first)}", ".SH SYNOPSIS", f".B {_roff(name)}"]
        lines += [r"[\fIOPTIONS\fR] [\fIARGUMENTS\fR]", ".SH DESCRIPTION"]
        lines += [".PP\n" + _roff(part.replace("\n", " ")) for part in about(command).split("\n\n")]
        rows = list(options(command))
        if rows:
            lines.append(".SH OPTIONS")
            lines += [f".TP\n\\fB{_roff(names)}\\fR\n{_roff(what) or '.'}" for names, what in rows]
        if example(command):
            lines += [".SH EXAMPLE", ".nf", _roff(example(command)), ".fi"]
        if name == "cairn":
            lines += [
                ".SH EXIT STATUS",
                "0 fine, 1 degraded or different, 2 wrong usage, 3 unreachable, 4 invalid.",
            ]
        others = [each.replace(" ", "-") for each, _ in every if each != name and each.startswith("cairn")]
        near = others if name == "cairn" else ["cairn"]
        lines += [".SH SEE ALSO", ", ".join(f"\\fB{_roff(each)}\\fR(1)" for each in near)]
        made[page] = "\n".join(lines) + "\n"
    return made


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


# Configuration


def configuration() -> str:
    text = "# Configuration files\n\n" + NOTE
    text += "YAML; a word that is not listed here is refused with its place. Commented examples are in "
    text += "[configs](../../configs/README.md).\n"
    for title, model in (("The agent", AgentConfig), ("The reflector", ReflectorConfig)):
        text += f"\n## {title}\n"
        text += "".join(_fields(found) for found in _models(model))
    return text


def _models(model: type[BaseModel], known: set[type[BaseModel]] | None = None) -> Iterator[type[BaseModel]]:
    known = set() if known is None else known
    known.add(model)
    yield model
    for field in model.model_fields.values():
        for found in _inside(field.annotation):
            if found not in known:
                yield from _models(found, known)


def _inside(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for argument in get_args(kind):
        yield from _inside(argument)


def _fields(model: type[BaseModel]) -> str:
    doc = re.sub(r"`{2}", "`", inspect.cleandoc(model.__doc__ or ""))
    text = f"\n### {model.__name__}\n\n{doc}\n\n| field | value | default |\n|---|---|---|\n"
    for name, field in model.model_fields.items():
        text += f"| `{field.alias or name}` | {_cell(_kind(field.annotation))} | {_cell(_default(field))} |\n"
    return text


def _kind(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_kind(each) for each in arguments if each is not NoneType))
    if origin in (tuple, list):
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return "values by name"
    if kind is NoneType:
        return "nothing"
    if origin is not None:
        return ", ".join(f"`{each}`" for each in arguments)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    words = {"str": "text", "int": "number", "float": "seconds", "bool": "true or false", "Path": "path"}
    words["AwareDatetime"] = "time (RFC 3339)"
    return words.get(kind.__name__, str(kind.__name__))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*required*"
    if field.default_factory is not None:
        return "see above"
    value = field.default
    if value is None or value == ():
        return ""
    if isinstance(value, BaseModel):
        return "its defaults"
    if isinstance(value, tuple):
        return "`[" + ", ".join(map(str, value)) + "]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


# Resources


RESOURCES = """\
Every field of every resource that is declared, and what becomes of it. All are parsed, checked and written
again unharmed, whether they are acted on or not. A field that is not listed here is kept in a store (a newer
Calico may have put it there) and refused in a file. The complete manifests of these kinds on 25 pages of
Calico's documentation (networking, and the reference of each kind), 48 of them, apply as they stand and give
the plan their pages describe (held to it in `tests/plan/published`; fragments and placeholders such as
`x.x.x.x/16` are left out). For editors there is a JSON Schema of all of them,
[resources.schema.json](resources.schema.json); in a YAML file for the YAML language server:
`# yaml-language-server: $schema=resources.schema.json`.
"""


def resources() -> str:
    text = "# Resources, field by field\n\n" + NOTE + RESOURCES
    for kind, fields in SUPPORT.items():
        text += f"\n## {kind}\n\n| field | acted on | |\n|---|---|---|\n"
        for path, support in fields.items():
            text += f"| `{path}` | {'yes' if support.acted_on else 'kept'} | {_cell(support.what)} |\n"
    return text


# What services say


HTTP = """\
Described for programs in [openapi.json](openapi.json), which every service also serves at
`/api/v1/openapi.json`. The web page is at `/`. Alice-LG finds a birdwatcher at `/status`, `/protocols` and
`/routes/...`. On other than loopback addresses a token (`Authorization: Bearer ...`) and TLS are required.

A service has at most 500 connections (fewer where it may open fewer than 2,000 files), half of them live
feeds. When there are more, the oldest that is not being answered goes; a feed goes when its reader has taken
nothing for a minute.
"""
MQTT_TEXT = """\
The payloads are JSON, described in [mqtt.schema.json](mqtt.schema.json). Within version 1 fields are only
ever added. Everything is published with QoS 1; an event may arrive twice, its `id` tells. In names, `/`, `+`
and `#` become `_`.

Topics, below `<prefix>/v1/<service>/<node>`:

| topic | payload | |
|---|---|---|
| `status` | Online, Offline | retained, every 10 s; offline also by the broker; empty: it left for good |
| `peers/<name>` | PeerSummary | retained, when it changed, at most 100 per 10 s; empty: the peer is gone |
| `events` | Event | as they happen; while the broker is away the last 1,000 are kept, the rest counted |
"""
METRICS = """\
At `/metrics`. A peer is labelled by its stable name; its volatile facts stand in `cairn_bgp_peer_info`. Alert
rules are in `configs/prometheus/`, a dashboard in `configs/grafana/`.

| metric | kind | labels | |
|---|---|---|---|
"""


def http() -> str:
    text = "# The HTTP interface\n\n" + NOTE
    text += HTTP
    for path, methods in description("version", MAX_LIMIT)["paths"].items():
        for method, operation in methods.items():
            text += f"\n## {method.upper()} {path}\n\n{operation['summary']}\n"
            if operation.get("parameters"):
                text += "\n| parameter | value | |\n|---|---|---|\n"
            for each in operation.get("parameters", []):
                shape = each["schema"]
                value = (
                    ", ".join(f"`{choice}`" for choice in shape["enum"]) if "enum" in shape else shape["type"]
                )
                text += f"| `{each['name']}` | {value} | {_cell(each['description'])} |\n"
            answers = [f"{status}: {each['description']}" for status, each in operation["responses"].items()]
            text += "\n" + " ".join(answers) + "\n"
    return text


def mqtt_schema() -> dict[str, Any]:
    _, definitions = models_json_schema(
        [(model, "serialization") for model in MQTT.values()], title="Cairn's MQTT payloads, version 1"
    )
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **definitions}


def mqtt() -> str:
    text = "# MQTT\n\n" + NOTE + MQTT_TEXT
    known: set[type[BaseModel]] = set()
    for top in MQTT.values():
        for model in _models(top, known) if top not in known else ():
            text += f"\n## {model.__name__}\n\n{inspect.cleandoc(model.__doc__ or '')}\n\n"
            text += "| field | value |\n|---|---|\n"
            for field, found in model.model_fields.items():
                text += f"| `{field}` | {_cell(_kind(found.annotation))} |\n"
    text += "\n## Events\n\n| kind |\n|---|\n"
    text += "".join(f"| `{kind}` |\n" for kind in sorted({*event_kinds(), "events.dropped"}))
    return text


def event_kinds() -> set[str]:
    """The kinds of events that the services' sources name."""
    found = set()
    for path in (*(TOP / "agent").rglob("*.py"), *(TOP / "reflector").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr == "get_logger":
                continue
            words = [each.value for each in node.args[:2] if isinstance(each, ast.Constant)]
            found |= {word for word in words if isinstance(word, str) and KINDS.fullmatch(word)}
    return found


class _Nobody(WaitingStatus):
    """A source that has one of everything, for the names of the metrics."""

    def __init__(self) -> None:
        health = Health(True, 0.0, "")
        super().__init__(ServiceStatus("agent", "n", "1", 0.0), EventRing(), lambda: health, str)

    def peers(self) -> list[PeerStatus]:
        counts = {"update": 1}
        family = FamilyStatus("ipv4-unicast")
        return [
            PeerStatus(
                "p",
                "10.0.0.1",
                "IDLE",
                0.0,
                families=(family,),
                messages_received=counts,
                messages_sent=counts,
            )
        ]


def _labels(call: ast.Call, tree: ast.Module) -> str:
    """The names of a Sample's labels, which stand in the call or in a variable of the same file."""
    given = next((word.value for word in call.keywords if word.arg == "labels"), None)
    given = call.args[4] if given is None and call.args[4:] else given
    if isinstance(given, ast.Name):
        given = next(
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == given.id
        )
    return ", ".join(name for name, _ in re.findall(r"\('(\w+)', (\w+)", ast.unparse(given) if given else ""))


def own_samples() -> dict[str, tuple[str, str, str, str]]:
    """Of the services' own metrics: name to kind, labels, help, services; read where they are made."""
    found: dict[str, tuple[str, str, str, set[str]]] = {}
    places = {"agent": "agent", "reflector": "reflector", "bgpd/telemetry": "both"}
    for folder, service in places.items():
        for path in sorted((TOP / folder).rglob("*.py")):
            if path.name == "peer_query.py":
                continue  # sums for the page only
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                    continue
                words = [str(each.value) for each in node.args[:2] if isinstance(each, ast.Constant)]
                if node.func.id not in ("Sample", "Distribution") or len(words) < 2:
                    continue
                gauge = "gauge" in ast.dump(node).lower()
                kind = "histogram" if node.func.id == "Distribution" else "gauge" if gauge else "counter"
                suffix = "_total" if kind == "counter" else ""
                name = f"cairn_{words[0]}{suffix}"
                known = found.setdefault(name, (kind, _labels(node, tree), str(words[1]), set()))
                known[3].add(service)
    return {name: (*known[:3], ", ".join(sorted(known[3]))) for name, known in sorted(found.items())}


def metrics() -> str:
    text = "# Metrics\n\n" + NOTE
    text += METRICS
    for family in Metrics(_Nobody(), clock=lambda: 0.0).registry.collect():
        if family.name.startswith("cairn_"):
            suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
            labels = sorted({label for sample in family.samples for label in sample.labels})
            row = (f"`{family.name}{suffix}`", family.type, ", ".join(labels), _cell(family.documentation))
            text += f"| {' | '.join(row)} |\n"
    text += "\n## Of one service\n\n| metric | kind | labels | service | |\n|---|---|---|---|---|\n"
    for name, (kind, labels, what, who) in own_samples().items():
        text += f"| `{name}` | {kind} | {labels} | {who} | {_cell(what)} |\n"
    return text


def main() -> None:
    for name, text in pages().items():
        path = TOP / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for stale in {*(TOP / "docs/man").glob("*.1")} - {TOP / "docs" / name for name in pages()}:
        stale.unlink()


if __name__ == "__main__":
    main()
