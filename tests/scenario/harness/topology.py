"""The network of the scenarios: three nodes, two reflectors and two top-of-rack routers in two racks.

::

       server 10.8.0.2                                     infra 10.7.0.2 (etcd, MQTT broker)
          │ lan8                                              │ lan7
       ┌──┴─────────────── tor1: FRR, AS 64601 ───────────────┘
       │ rack1 10.1.0.0/24    │ 10.9.0.0/30
       │                   tor2: BIRD 2, AS 64602
       │                      │ rack2 10.2.0.0/24
    node1 .11  node2 .12   node3 .13
    rr1 .21                rr2 .22

Everything has IPv6 beside IPv4 (fd10:1::11 for 10.1.0.11). The underlay (racks and infra) is routed
statically. The server's network is known to the nodes only over BGP from their router, and no node has a
default route: a packet that arrives arrived because a BGP route led it. Nodes and reflectors are AS 65000;
each node peers with both reflectors and, over eBGP, with its rack's router; the routers peer with each other.
"""

from __future__ import annotations

from tests.scenario.harness.bird import preamble
from tests.scenario.harness.world import Host, World

ASN = 65000
TOR_ASN = {1: 64601, 2: 64602}
RACK = {"node1": 1, "node2": 1, "node3": 2, "rr1": 1, "rr2": 2}
NUMBER = {"node1": 11, "node2": 12, "node3": 13, "rr1": 21, "rr2": 22}
NODES = ("node1", "node2", "node3")
REFLECTORS = ("rr1", "rr2")
SERVER_NETS = {4: "10.8.0.0/24", 6: "fd10:8::/64"}


def address(name: str, version: int) -> str:
    """A node's or reflector's address."""
    return f"10.{RACK[name]}.0.{NUMBER[name]}" if version == 4 else f"fd10:{RACK[name]}::{NUMBER[name]}"


def gateway(rack: int, version: int) -> str:
    """The router's address in a rack."""
    return f"10.{rack}.0.1" if version == 4 else f"fd10:{rack}::1"


def version_of(prefix: str) -> int:
    """4 or 6, of an address or prefix."""
    return 6 if ":" in prefix else 4


def lay_network(world: World) -> dict[str, Host]:
    """Make every host, wire and underlay route; the hosts by name."""
    hosts: dict[str, Host] = {}
    for rack in (1, 2):
        tor = world.host(f"tor{rack}", router=True)
        hosts[tor.name] = tor
        world.segment(f"rack{rack}")
        world.attach(f"rack{rack}", tor, "eth0", f"10.{rack}.0.1/24", f"fd10:{rack}::1/64")
    tor1, tor2 = hosts["tor1"], hosts["tor2"]
    world.link(tor1, "core", tor2, "core")
    tor1.ip("addr add 10.9.0.1/30 dev core", "addr add fd10:9::1/64 dev core")
    tor2.ip("addr add 10.9.0.2/30 dev core", "addr add fd10:9::2/64 dev core")
    hosts |= {"server": world.host("server"), "infra": world.host("infra")}
    for number, host in ((7, hosts["infra"]), (8, hosts["server"])):
        world.segment(f"lan{number}")
        world.attach(f"lan{number}", tor1, f"lan{number}", f"10.{number}.0.1/24", f"fd10:{number}::1/64")
        world.attach(f"lan{number}", host, "eth0", f"10.{number}.0.2/24", f"fd10:{number}::2/64")
        host.ip(f"route add default via 10.{number}.0.1", f"route add default via fd10:{number}::1")
    tor1.ip("route add 10.2.0.0/24 via 10.9.0.2", "route add fd10:2::/64 via fd10:9::2")
    for net in (1, 7):
        tor2.ip(f"route add 10.{net}.0.0/24 via 10.9.0.1", f"route add fd10:{net}::/64 via fd10:9::1")
    for name, rack in RACK.items():
        host = world.host(name, router=name in NODES)
        hosts[name] = host
        world.attach(f"rack{rack}", host, "eth0", f"{address(name, 4)}/24", f"{address(name, 6)}/64")
        for net in {1, 2, 7} - {rack}:
            host.ip(
                f"route add 10.{net}.0.0/24 via {gateway(rack, 4)}",
                f"route add fd10:{net}::/64 via {gateway(rack, 6)}",
            )
    return hosts


def frr_configuration() -> str:
    """tor1: the nodes of rack 1, the other router, and the server's networks to announce."""
    peers = [(address(name, version), ASN) for name in NODES if RACK[name] == 1 for version in (4, 6)]
    peers += [("10.9.0.2", TOR_ASN[2]), ("fd10:9::2", TOR_ASN[2])]
    lines = [
        f"router bgp {TOR_ASN[1]}",
        " bgp router-id 10.1.0.1",
        " bgp graceful-restart",
        " no bgp ebgp-requires-policy",
        " no bgp default ipv4-unicast",
    ]
    for peer, asn in peers:
        lines += [f" neighbor {peer} remote-as {asn}", f" neighbor {peer} timers connect 2"]
    for version in (4, 6):
        lines += [f" address-family ipv{version} unicast", f"  network {SERVER_NETS[version]}"]
        lines += [f"  neighbor {peer} activate" for peer, _ in peers if version_of(peer) == version]
        lines += [" exit-address-family"]
    return "\n".join(lines)


def bird_configuration() -> str:
    """tor2: the nodes of rack 2 and the other router."""
    peers = [(address(name, version), ASN) for name in NODES if RACK[name] == 2 for version in (4, 6)]
    peers += [("10.9.0.1", TOR_ASN[1]), ("fd10:9::1", TOR_ASN[1])]
    sessions = ""
    for number, (peer, asn) in enumerate(peers):
        version = version_of(peer)
        core = "10.9.0.2" if version == 4 else "fd10:9::2"
        own = gateway(2, version) if asn == ASN else core
        sessions += f"""
protocol bgp peer{number} {{
    local {own} as {TOR_ASN[2]}; neighbor {peer} as {asn};
    connect retry time 2; connect delay time 1; error wait time 1, 2; graceful restart on;
    ipv{version} {{ import all; export where source = RTS_BGP; }};
}}"""
    return preamble("10.2.0.1") + sessions
