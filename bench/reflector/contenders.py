"""The reflectors compared, each in its best reasonable settings.

Every contender listens on 127.0.0.1:17900, is asked to reflect between any number of
clients of its own AS from 127.0.0.0/8, accepts and sends everything, installs nothing in
the kernel and writes no log beyond errors. `settings` says in words what was done for it;
it goes into the report, so that whoever knows a daemon better can object.

Next hops (172.16.0.0/12) resolve everywhere: BIRD by a static route, FRR because without
zebra every next hop counts as valid, OpenBGPD because its Linux port has no kernel table,
GoBGP because it does not look.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bench.figures import PLAIN, SUBJECT
from bgpd import compiled

PORT = 17900
IDENTIFIER = "10.255.255.254"

CAIRN_CONFIG = """\
asn: {asn}
routerId: {identifier}
clusterId: {identifier}
listen:
  address: 127.0.0.1
  port: {port}
clients:
  - prefix: 127.0.0.0/8
"""

BIRD_CONFIG = """\
router id {identifier};
protocol device {{}}
protocol static {{ ipv4; route 172.16.0.0/12 blackhole; }}
protocol bgp clients {{
  local 127.0.0.1 port {port} as {asn};
  neighbor range 127.0.0.0/8 as {asn};
  dynamic name "client";
  dynamic name digits 5;
  multihop;
  passive on;
  rr client;
  rr cluster id {identifier};
  ipv4 {{ import all; export where source = RTS_BGP; }};
}}
"""

FRR_CONFIG = """\
frr defaults traditional
log stdout errors
router bgp {asn}
 bgp router-id {identifier}
 bgp cluster-id {identifier}
 no bgp ebgp-requires-policy
 no bgp network import-check
 no bgp log-neighbor-changes
 timers bgp 30 90
 coalesce-time 0
 write-quanta 64
 read-quanta 10
 neighbor clients peer-group
 neighbor clients remote-as {asn}
 neighbor clients passive
 neighbor clients advertisement-interval 0
 bgp listen limit 65535
 bgp listen range 127.0.0.0/8 peer-group clients
 address-family ipv4 unicast
  neighbor clients route-reflector-client
 exit-address-family
"""

OPENBGPD_CONFIG = """\
AS {asn}
router-id {identifier}
socket "{directory}/bgpd.sock"
listen on 127.0.0.1 port {port}
fib-update no
nexthop qualify via default
neighbor 127.0.0.0/8 {{
  remote-as {asn}
  descr "clients"
  passive
  announce IPv4 unicast
  route-reflector {identifier}
}}
allow from any
allow to any
"""

GOBGP_CONFIG = """\
[global.config]
  as = {asn}
  router-id = "{identifier}"
  port = {port}
  local-address-list = ["127.0.0.1"]
[[peer-groups]]
  [peer-groups.config]
    peer-group-name = "clients"
    peer-as = {asn}
  [peer-groups.transport.config]
    passive-mode = true
  [peer-groups.route-reflector.config]
    route-reflector-client = true
    route-reflector-cluster-id = "{identifier}"
  [[peer-groups.afi-safis]]
    [peer-groups.afi-safis.config]
      afi-safi-name = "ipv4-unicast"
[[dynamic-neighbors]]
  [dynamic-neighbors.config]
    prefix = "127.0.0.0/8"
    peer-group = "clients"
"""


@dataclass(frozen=True, slots=True)
class Contender:
    """How one reflector is configured and started.

    `command` maps the directory (as the daemon sees it) that holds `config_name` to an argument
    list whose first word is resolved inside `root`. `root` is "/" or another system's root directory.
    """

    name: str
    title: str
    program: str
    version_option: str
    config_name: str
    config_text: str
    command: Callable[[str], list[str]]
    settings: str
    root: Path = Path("/")
    config_mode: int = 0o644

    def config(self, asn: int, directory: str) -> str:
        return self.config_text.format(asn=asn, identifier=IDENTIFIER, port=PORT, directory=directory)

    def argv(self, directory: str) -> list[str]:
        """The command line, through chroot for a daemon of another root."""
        return [*self.prefix(), *self.command(directory)]

    def prefix(self) -> list[str]:
        return [] if self.root == Path("/") else ["chroot", str(self.root)]

    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        path = self.root / self.program.lstrip("/")
        return None if path.exists() else f"{self.program} is not installed"

    def version(self) -> str:
        """The version it reports, e.g. "2.0.12"; "" if it says none."""
        try:
            said = subprocess.run(
                [*self.prefix(), self.program, self.version_option],
                capture_output=True, text=True, timeout=20, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return ""
        found = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
        return found.group(0) if found else ""


CAIRN = str(Path(sys.executable).parent / "cairn")


def cairn() -> Contender:
    modules = "compiled modules" if compiled.in_use() else "plain Python"
    return Contender(
        name=SUBJECT, title="Cairn", program=CAIRN, version_option="--version",
        config_name="reflector.yaml", config_text=CAIRN_CONFIG,
        command=lambda directory: [CAIRN, "reflector", "--config", f"{directory}/reflector.yaml"],
        settings=f"defaults: one prefix of dynamic clients; all validation and decision steps on; {modules}",
    )  # fmt: skip


def plain(root: Path = Path("/")) -> Contender:  # noqa: ARG001 - it is that of this checkout
    return replace(
        cairn(), name=PLAIN, title="plain Python",
        command=lambda directory: ["/usr/bin/env", "CAIRN_PLAIN=1", *cairn().command(directory)],
        settings="the same without the compiled modules",
    )  # fmt: skip


def bird(root: Path = Path("/")) -> Contender:
    return Contender(
        name="bird", title="BIRD", program="/usr/sbin/bird", version_option="--version", root=root,
        config_name="bird.conf", config_text=BIRD_CONFIG,
        command=lambda directory: [
            "/usr/sbin/bird", "-f", "-c", f"{directory}/bird.conf", "-s", f"{directory}/bird.ctl",
        ],
        settings="one dynamic BGP range, passive, rr client; next hops by one static route; "
        "no kernel protocol, no log",
    )  # fmt: skip


def frr(root: Path = Path("/")) -> Contender:
    return Contender(
        name="frr", title="FRR", program="/usr/lib/frr/bgpd", version_option="--version", root=root,
        config_name="bgpd.conf", config_text=FRR_CONFIG,
        command=lambda directory: [
            "/usr/lib/frr/bgpd", "-Z", "-n", "-S", "-P", "0", "-p", str(PORT), "-l", "127.0.0.1",
            "--limit-fds", "65000", "-f", f"{directory}/bgpd.conf", "-i", f"{directory}/bgpd.pid",
            "-z", f"{directory}/zserv.api", "--vty_socket", directory,
        ],
        settings="bgpd alone (no zebra, no kernel), listen range with a passive peer group, "
        "advertisement interval 0, coalesce time 0, read and write quanta at their maximum",
    )  # fmt: skip


def openbgpd(root: Path = Path("/")) -> Contender:
    return Contender(
        name="openbgpd", title="OpenBGPD", program="/usr/sbin/bgpd", version_option="-V", root=root,
        config_name="bgpd.conf", config_text=OPENBGPD_CONFIG, config_mode=0o600,
        command=lambda directory: ["/usr/sbin/bgpd", "-d", "-f", f"{directory}/bgpd.conf"],
        settings="neighbor template, passive, route-reflector; fib-update no; "
        "memory and CPU of its three processes added",
    )  # fmt: skip


def gobgp(root: Path = Path("/")) -> Contender:
    return Contender(
        name="gobgp", title="GoBGP", program="/usr/bin/gobgpd", version_option="--version", root=root,
        config_name="gobgpd.toml", config_text=GOBGP_CONFIG,
        command=lambda directory: [
            "/usr/bin/gobgpd", "-t", "toml", "-f", f"{directory}/gobgpd.toml", "-l", "error",
            "--pprof-disable", f"--api-hosts=unix://{directory}/gobgp.sock",
        ],
        settings="dynamic-neighbors with a passive peer group, one address family, log level error, no pprof",
    )  # fmt: skip


RIVALS: dict[str, Callable[[Path], Contender]] = {
    "plain": plain,
    "bird": bird,
    "frr": frr,
    "openbgpd": openbgpd,
    "gobgp": gobgp,
}
