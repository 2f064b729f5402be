"""The node says who it is: its Node resource, made or corrected by its own agent.

Addresses come from the agent's configuration; where that names none and there is no Node yet, from the
interface that holds the default route, as Calico's "first found" does. What others declared of the node
(labels, the reflector's cluster ID, fields this version does not know) is never touched. A machine that was
given the name of another one that lives does not put that out (`namesake`).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Mapping
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

import structlog
from pydantic import ValidationError
from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.config import AgentConfig
from bgpd.datastore import Conflict, Datastore, DatastoreError
from bgpd.resources import (
    ANNOTATIONS,
    CALICO_API_VERSION,
    Key,
    Node,
    NodeLease,
    ResourceError,
    to_document,
)
from bgpd.resources.cairn import CONFIGURED, LEARN_ONLY
from bgpd.resources.scalars import IPAddress

_SCOPE_GLOBAL = 0
_RETRY = 5.0  # seconds

log = structlog.get_logger("agent.registration")


def registered(
    config: AgentConfig,
    known: Node | None,
    found: Mapping[int, str],
    tunnelled: frozenset[int] = frozenset(),
    mac: str = "",
    *,
    ipip: bool = False,
) -> Node | None:
    """The Node as it should be declared; None if it is so already.

    ``found``: addresses by IP version. ``tunnelled``: the versions for which this node has a VXLAN device of
    this ``mac`` if none is declared; likewise its ordinary address serves as the tunnel's, and for IPIP.
    """
    document: dict[str, Any] = (
        to_document(known)
        if known is not None
        else {
            "apiVersion": CALICO_API_VERSION,
            "kind": Node.KIND,
            "metadata": {"name": config.node},
            "spec": {},
        }
    )
    document["spec"] = document.get("spec") or {}
    bgp = document["spec"]["bgp"] = document["spec"].get("bgp") or {}
    for field, configured, version in (
        ("ipv4Address", config.ipv4, 4),
        ("ipv6Address", config.ipv6, 6),
    ):
        address = str(configured) if configured is not None else bgp.get(field) or found.get(version)
        if address:
            bgp[field] = address
    if config.asn is not None:
        bgp["asNumber"] = config.asn
    for version, address, device in (
        (4, "ipv4VXLANTunnelAddr", "vxlanTunnelMACAddr"),
        (6, "ipv6VXLANTunnelAddr", "vxlanTunnelMACAddrV6"),
    ):
        if version in tunnelled and (own := bgp.get(f"ipv{version}Address")):
            document["spec"][address] = document["spec"].get(address) or own.partition("/")[0]
            document["spec"][device] = document["spec"].get(device) or mac
    if ipip and bgp.get("ipv4Address"):
        bgp["ipv4IPIPTunnelAddr"] = bgp.get("ipv4IPIPTunnelAddr") or bgp["ipv4Address"].partition("/")[0]
    metadata = document.setdefault("metadata", {})
    annotations = metadata.get("annotations") or {}
    if config.learn_only:
        metadata["annotations"] = {ANNOTATIONS + LEARN_ONLY: CONFIGURED, **annotations}
    elif annotations.get(ANNOTATIONS + LEARN_ONLY) == CONFIGURED:
        del annotations[ANNOTATIONS + LEARN_ONLY]
    wanted = Node.model_validate(document, by_alias=True, by_name=False)
    return None if wanted == known else wanted


async def found_addresses() -> dict[int, str]:
    """Per IP version the address, with its subnet's length, of the interface with the default route."""
    found: dict[int, str] = {}
    for version, family in ((4, 2), (6, 10)):
        interface = None
        async with AsyncIPRoute() as route:  # which is then of no more use: it may not have told all
            async for entry in await route.get_default_routes(family=family):
                interface = entry.get("oif")
                break
        if interface is None:
            continue
        async with AsyncIPRoute() as route:
            async for address in await route.get_addr(family=family, index=interface):
                if address["scope"] == _SCOPE_GLOBAL:
                    text = f"{address.get('local') or address.get('address')}/{address['prefixlen']}"
                    found[version] = str(_interface(text))
                    break
    return found


def _interface(text: str) -> IPv4Interface | IPv6Interface:
    return ip_interface(text)


def why_absent(own: IPAddress | None) -> str:
    """What may be the reason that a peer never came. ``own``: the address this node speaks from."""
    if own is not None and _elsewhere(own):
        return (
            f"{own} is declared for this node and is no address of this machine; correct the "
            "Node, or give this machine another name if the Node is another's"
        )
    return "is it reachable, and are its address, AS number and password right?"


def _elsewhere(address: IPAddress) -> bool:
    """Whether this machine does not have an address."""
    with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6) as trial:
        try:
            trial.bind((str(address), 0))
        except OSError as error:
            return error.errno == errno.EADDRNOTAVAIL
    return False


async def namesake(store: Datastore, config: AgentConfig) -> str:
    """The address of another machine that lives as this node, and that registering this one would put out;
    empty if there is none. To be asked before the node's lease is held here; one that a former agent of this
    machine left, when it had another address, counts until it runs out. Raises DatastoreError.
    """
    if not (store.shared and config.register_node):
        return ""
    try:
        known = await store.get(Key(Node.KIND, config.node))
        if known is None or await store.get(Key(NodeLease.KIND, config.node)) is None:
            return ""
    except ResourceError:
        return ""  # what is wrong with it, `register` says
    node = known.resource
    assert isinstance(node, Node)
    for declared, own in ((node.ipv4, config.ipv4), (node.ipv6, config.ipv6)):
        if declared and own and declared.ip != own.ip and _elsewhere(declared.ip):
            return str(declared.ip)
    return ""


async def register(
    store: Datastore,
    config: AgentConfig,
    tunnelled: frozenset[int] = frozenset(),
    mac: str = "",
    *,
    ipip: bool = False,
) -> bool:
    """Bring the Node about, as often as that takes; once it is right, whether it had to be written."""
    said = ""
    while True:
        try:
            known = await store.get(Key(Node.KIND, config.node))
            node = known.resource if known is not None else None
            assert node is None or isinstance(node, Node)
            needed = (config.ipv4 or config.ipv6) is None
            found = await found_addresses() if needed and node is None else {}
            wanted = registered(config, node, found, tunnelled, mac, ipip=ipip)
            if wanted is None:
                return False
            if known is None:
                await store.create(wanted)
            else:
                await store.update(wanted, known.revision)
            log.info("node registered", node=config.node, ipv4=str(wanted.ipv4), ipv6=str(wanted.ipv6))
            return True
        except Conflict:
            continue
        except (DatastoreError, ResourceError, ValidationError, NetlinkError, OSError) as error:
            if said != (said := str(error)):
                log.warning("the node cannot be registered yet", reason=said)
            await asyncio.sleep(_RETRY)
