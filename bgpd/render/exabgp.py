"""Planned sessions as an ExaBGP 5 configuration.

ExaBGP is told only how to reach its peers; which routes to announce it hears from the agent, over the pipes
of the one API process configured here. It is asked for raw packets both ways, keeps no Adj-RIB-In, and leaves
End-of-RIB to the agent (``manual-eor``), so that after a restart nothing is flushed before it is announced
again.

Passwords are always written in base64 and said to be: ExaBGP otherwise *guesses*, and reads a password of
hexadecimal digits as base64. Encoded so, no password can break out of its string either. A session whose
password is not known, or none a kernel takes (more than 80 octets), is left out: better down than
unprotected; ``unprotected`` names those. What is not UTF-8 in a password is as Python decodes it
(``surrogateescape``).

Descriptions begin with a mark of the whole configuration: ExaBGP shows them, and so what it has read. It
begins no session anew for another description.

What ExaBGP cannot do is left out silently here and done by the agent: own keepalive times (a third of the
hold time is sent), allowed own AS, next-hop modes and filters.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from ipaddress import IPv4Address

from bgpd.plan import Peering, SecretRef
from bgpd.render.errors import RenderError
from bgpd.render.quoting import described
from bgpd.resources.bgp_configuration import DEFAULT_LISTEN_PORT
from bgpd.resources.scalars import IPAddress
from bgpd.wire.nlri import Family

PROCESS = "agent"
MAX_PASSWORD = 80
_MARK = re.compile(r'^  description "([0-9a-f]{16}): ', re.MULTILINE)
_SESSION = re.compile(r"^neighbor (\S+) \{", re.MULTILINE)
_WHOLE_SESSION = re.compile(r"^neighbor (\S+) \{\n.*?^\}\n", re.MULTILINE | re.DOTALL)
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
_FAMILY_NAMES: Mapping[int, str] = {1: "ipv4", 2: "ipv6"}


def configuration(
    peerings: Sequence[Peering],
    *,
    router_id: IPv4Address,
    helper_command: str,
    passwords: Mapping[SecretRef, str],
    host_name: str = "",
    listen_port: int = DEFAULT_LISTEN_PORT,
    addresses: Sequence[IPAddress | None] = (),
) -> str:
    """Write the configuration for one ExaBGP process with these sessions; the text ends in a newline.

    ``helper_command`` is the API process's command line, ``host_name`` what the FQDN capability says,
    ``listen_port`` where passive sessions are waited for, ``addresses`` the node's own, at which one without
    a source address is. Raises ``RenderError`` for a command that ExaBGP's
    syntax cannot express.
    """
    lines = [
        "# Written by Cairn from the declared resources; edits are lost with the next change.",
        f"process {PROCESS} {{",
        f"  run {_command(helper_command)};",
        "  encoder json;",
        "}",
        "",
        "template {",
        "  neighbor cairn {",
        f"    router-id {router_id};",
        "    manual-eor true;",
        "    adj-rib-in false;",
        "    adj-rib-out true;",
        *(
            [f"    host-name {host_name};"]
            if _HOST_NAME.fullmatch(host_name) and ".." not in host_name
            else []
        ),
        "    api {",
        f"      processes [ {PROCESS} ];",
        "      neighbor-changes;",
        "      receive { packets; open; update; refresh; }",
        "      send { packets; open; update; }",
        "    }",
        "  }",
        "}",
    ]
    for peering in sorted(peerings, key=lambda peering: str(peering.peer_address)):
        lines.append("")
        if unprotected([peering], passwords):
            why = "not known" if peering.password not in passwords else "none a kernel takes"
            lines.append(f"# {peering.name} is left out: the password in secret {peering.password} is {why}.")
            continue
        waits_at = peering.local_address
        if waits_at is None and peering.passive:
            version = peering.peer_address.version
            waits_at = next((own for own in addresses if own is not None and own.version == version), None)
        lines.extend(_session(peering, passwords, waits_at, listen_port))
    text = "\n".join(lines) + "\n"
    mark = sha256(text.encode()).hexdigest()[:16]
    return text.replace('  description "', f'  description "{mark}: ')


def mark_of(configuration: str) -> str:
    """What its descriptions begin with and no other configuration's do; empty where it has no session."""
    found = _MARK.search(configuration)
    return found[1] if found else ""


def addresses_of(configuration: str) -> list[str]:
    """The peers a configuration has sessions with."""
    return _SESSION.findall(configuration)


def without_sessions(configuration: str) -> str:
    """What is not said of any one session: two that have the same differ in their peers alone."""
    return _SESSION.split(configuration, maxsplit=1)[0]


def sessions_in(configuration: str) -> dict[str, str]:
    """What a configuration says of each peer, by the peer's address."""
    return {found[1]: found[0] for found in _WHOLE_SESSION.finditer(configuration)}


def with_sessions(configuration: str, sessions: Iterable[str]) -> str:
    """A configuration that has these sessions of another one too, under a mark of its own."""
    text = "\n".join((configuration, *sessions))
    mark = sha256(text.encode()).hexdigest()[:16]
    return _MARK.sub(f'  description "{mark}: ', text)


def unprotected(peerings: Sequence[Peering], passwords: Mapping[SecretRef, str]) -> list[Peering]:
    """Give the sessions left out because their password is not among ``passwords``, or not usable."""
    return [
        peering
        for peering in peerings
        if peering.password is not None and _encoded(passwords.get(peering.password, "")) is None
    ]


def _session(
    peering: Peering,
    passwords: Mapping[SecretRef, str],
    local: IPAddress | None,
    listen_port: int,
) -> Iterator[str]:
    yield f"neighbor {peering.peer_address} {{"
    yield "  inherit cairn;"
    yield f"  description {described(f'{peering.name}: {peering.reason}')};"
    yield f"  local-address {local if local is not None else 'auto'};"
    yield f"  local-as {peering.local_asn};"
    yield f"  peer-as {peering.peer_asn};"
    yield f"  hold-time {peering.hold_time};"
    # Without an address of its own a session cannot be waited for; both sides then connect, and one wins.
    if peering.passive and local is not None:
        yield "  passive true;"
        yield f"  listen {listen_port};"
    else:
        yield "  passive false;"
        yield f"  connect {peering.peer_port};"
    if peering.ttl_security is not None:
        yield "  outgoing-ttl 255;"
        yield f"  incoming-ttl {256 - peering.ttl_security};"
    if peering.password is not None:
        yield f'  md5-password "{_encoded(passwords[peering.password])}";'
        yield "  md5-base64 true;"
    yield "  capability {"
    yield f"    graceful-restart {peering.graceful_restart or 'disable'};"
    yield "    route-refresh enable;"
    yield "    asn4 enable;"
    yield "    extended-message enable;"
    yield "  }"
    yield f"  family {{ {' '.join(f'{_family(family)};' for family in peering.families)} }}"
    yield "}"


def _family(family: Family) -> str:
    return f"{_FAMILY_NAMES[family.afi]} unicast"


def _encoded(password: str) -> str | None:
    """Give the password in base64; None for one no kernel takes."""
    try:
        octets = password.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, out of no octets at all
        return None
    return b64encode(octets).decode("ascii") if 0 < len(octets) <= MAX_PASSWORD else None


def _command(text: str) -> str:
    if not text or not text.isprintable() or not text.isascii() or any(mark in text for mark in ";{}#\\[],"):
        raise RenderError(
            "the command of ExaBGP's API process", "has a character ExaBGP's syntax gives a meaning"
        )
    return text
