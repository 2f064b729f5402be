"""A workload: a namespace with one interface, wired to its host as Calico wires a pod."""

from __future__ import annotations

from collections.abc import Sequence

from tests.scenario.harness.world import Host, World

_HOST_MAC = "ee:ee:ee:ee:ee:ee"
_GATEWAY = "169.254.1.1"
_GATEWAY6 = "fe80::ecee:eeff:feee:eeee"  # the link-local address that belongs to that MAC


class Workload:
    """A container or VM with addresses of its own, reached through whatever host it is attached to.

    Its default route leads to 169.254.1.1, an address nobody has: the host answers for it by proxy ARP.
    The host side of the wire has no address. No route to the workload is made here: that is Cairn's work.
    """

    def __init__(self, world: World, name: str, ipv4: str, ipv6: str = "") -> None:
        self.name = name
        self.addresses = [address for address in (ipv4, ipv6) if address]
        self.interface = f"cali{name}"
        self.host = world.host(f"w.{name}")
        self._world = world
        self._home: Host | None = None

    def attach(self, host: Host) -> None:
        """Wire it to a host; if it has a wire already, that is cut first (a live migration's last moment)."""
        self.detach()
        self._wire(host, "eth0")
        self._leave_by("eth0")
        self._home = host

    def _wire(self, host: Host, inner: str) -> None:
        wire = self.interface.replace(".", "/")
        self._world.link(host, self.interface, self.host, inner)
        host.ip(  # down and up: the link-local address follows the MAC
            f"link set {self.interface} down",
            f"link set {self.interface} address {_HOST_MAC}",
            f"link set {self.interface} up",
        )
        host.namespace.sysctl(
            {
                f"net.ipv4.conf.{wire}.proxy_arp": "1",
                f"net.ipv4.neigh.{wire}.proxy_delay": "0",
                f"net.ipv4.conf.{wire}.forwarding": "1",
                f"net.ipv6.conf.{wire}.forwarding": "1",
            }
        )
        # Proxy ARP answers only for what the host itself could reach by another way.
        host.ip(f"route replace {_GATEWAY}/32 dev {_outward(host)} scope link")
        self.host.ip(*(f"addr replace {address} dev {inner}" for address in self.addresses))

    def _leave_by(self, inner: str) -> None:
        gateways = (_GATEWAY, _GATEWAY6)[: len(self.addresses)]
        self.host.ip(
            f"route replace {_GATEWAY} dev {inner} scope link",
            *(f"route replace default via {gateway} dev {inner}" for gateway in gateways),
        )

    def detach(self) -> None:
        """Cut its wire."""
        if self._home is not None:
            self._home.ip(f"link delete {self.interface}")
            self._home = None


class Prepared(Workload):
    """A workload with a wire to every host it may move to, as a VM has whose next host is made ready first.

    Whichever host a packet comes by, it answers; its own packets leave by its home. So a move drops nothing
    but what routing drops.
    """

    def __init__(self, world: World, name: str, ipv4: str, ipv6: str, hosts: Sequence[Host]) -> None:
        super().__init__(world, name, ipv4, ipv6)
        self._inner = {host.name: f"eth{number}" for number, host in enumerate(hosts)}
        self._hosts = hosts
        for host in hosts:
            self._wire(host, self._inner[host.name])

    def attach(self, host: Host) -> None:
        """Make another of its hosts its home."""
        self._leave_by(self._inner[host.name])

    def detach(self) -> None:
        """Cut all its wires."""
        for host in self._hosts:
            host.ip(f"link delete {self.interface}")


def _outward(host: Host) -> str:
    """A host's interface towards its network."""
    return "eth0" if "eth0" in host.run("ip", "-br", "link") else "eth1"
