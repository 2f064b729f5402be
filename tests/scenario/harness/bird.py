"""BIRD 2 on a host, and BIRD's view of its routes and sessions, read from `birdc`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.scenario.harness.program import Program
from tests.scenario.harness.world import Host

_ROUTE = re.compile(
    r"^(?P<prefix>[0-9a-f.:]+/\d+|\s+)\s*(?P<type>\w+) \[(?P<protocol>\S+)[^\]]*\](?P<best> \*)?"
)
_ATTRIBUTE = re.compile(r"^\t(?P<name>[\w.]+): (?P<value>.*)$")
_VIA = re.compile(r"^\tvia (?P<gateway>\S+) on ")
_MASTER = {4: "master4", 6: "master6"}


class Moment(float):
    """When a session came up, in seconds of the day, as BIRD says it ("17:45:03.775").

    BIRD reckons it back from now each time it is asked, and one and the same may come out a millisecond off.
    """

    @classmethod
    def read(cls, text: str) -> Moment:
        hours, minutes, seconds = text.split(":")
        return cls(int(hours) * 3600 + int(minutes) * 60 + float(seconds))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Moment) and abs(self - other) < 0.02

    __hash__ = None  # type: ignore[assignment]  # what is equal by a tolerance cannot be looked up


@dataclass(frozen=True, slots=True)
class BirdPath:
    """One path BIRD holds: what protocol brought it, whether it is the best, attributes in its spelling."""

    protocol: str
    best: bool
    gateways: frozenset[str]
    attributes: dict[str, str]

    @property
    def next_hop(self) -> str:
        """The BGP next hop (the global address of an IPv6 pair), empty for other routes."""
        return self.attributes.get("BGP.next_hop", "").split(" ")[0]


class Bird:
    """One BIRD; `configuration` is complete text (see `preamble`)."""

    def __init__(self, host: Host, configuration: str, name: str = "bird") -> None:
        self.host = host
        self.name = name
        self._socket = host.directory / f"{name}.ctl"
        self._configuration = host.write(f"{name}.conf", configuration)
        self.program = self._start()

    def _start(self, *flags: str) -> Program:
        where = ("-c", self._configuration, "-s", self._socket)
        return self.host.start(self.name, "bird", "-f", *where, *flags)

    def restart(self, *flags: str) -> None:
        """Start it again after it was stopped or killed; with ``-R`` as from a graceful restart."""
        self.program = self._start(*flags)

    def configure(self, configuration: str) -> str:
        """Replace the configuration of the running daemon; what it said."""
        self._configuration.write_text(configuration)
        return self.command("configure")

    def command(self, command: str) -> str:
        """One birdc command and its answer."""
        return self.host.run("birdc", "-s", self._socket, command, timeout=60.0)

    def since(self) -> list[Moment]:
        """When each BGP session came up, or else came to be as it is."""
        lines = self.command("show protocols").splitlines()
        return [Moment.read(line.split()[4]) for line in lines if " BGP " in line]

    def sessions(self) -> dict[str, bool]:
        """Peer address → established, of every BGP protocol."""
        found: dict[str, bool] = {}
        state = ""
        for line in self.command("show protocols all").splitlines():
            if "BGP state:" in line:
                state = line.split(":")[1].strip()
            elif "Neighbor address:" in line:
                found[line.split(":", 1)[1].strip().split("%")[0]] = state == "Established"
        return found

    def paths(self, version: int = 4) -> dict[str, list[BirdPath]]:
        """Every path of the master table by prefix."""
        return parse_paths(self.command(f"show route all table {_MASTER[version]}"))

    def routes(self, version: int = 4) -> dict[str, frozenset[str]]:
        """Prefix → next hop of the best BGP path (routes of other protocols are left out)."""
        return {
            prefix: frozenset({path.next_hop})
            for prefix, paths in self.paths(version).items()
            for path in paths
            if path.best and path.next_hop
        }


def parse_paths(text: str) -> dict[str, list[BirdPath]]:
    """Read the answer to `show route all`; the blocks are told apart by their indentation."""
    found: dict[str, list[BirdPath]] = {}
    prefix = ""
    gateways: set[str] = set()
    current: tuple[str, bool] | None = None
    attributes: dict[str, str] = {}

    def finish() -> None:
        if current is not None:
            path = BirdPath(current[0], current[1], frozenset(gateways), dict(attributes))
            found.setdefault(prefix, []).append(path)

    for line in text.splitlines():
        if (route := _ROUTE.match(line)) is not None:
            finish()
            prefix = route["prefix"].strip() or prefix
            current = route["protocol"], route["best"] is not None
            gateways.clear()
            attributes.clear()
        elif (attribute := _ATTRIBUTE.match(line)) is not None:
            attributes[attribute["name"]] = attribute["value"].strip()
        elif (via := _VIA.match(line)) is not None:
            gateways.add(via["gateway"])
    finish()
    return found


def preamble(router_id: str, *, kernel: bool = True, ecmp: bool = False) -> str:
    """The part every configuration starts with: log, device, direct routes for next hops, kernel export."""
    channels = "".join(
        f"""
protocol kernel kernel{version} {{
    graceful restart on;
    {"merge paths on;" if ecmp else ""}
    {family} {{ import none; export where source = RTS_BGP; }};
}}"""
        for version, family in ((4, "ipv4"), (6, "ipv6"))
    )
    return f"""
log stderr all;
router id {router_id};
protocol device {{ scan time 2; }}
protocol direct {{ ipv4; ipv6; }}
{channels if kernel else ""}
"""
