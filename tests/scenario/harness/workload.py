"""A workload: a namespace with one interface, wired to its host as Calico wires a pod."""

from __future__ import annotations

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
        wire = self.interface.replace(".", "/")
        self._world.link(host, self.interface, self.host, "eth0")
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
        self.host.ip(*(f"addr replace {address} dev eth0" for address in self.addresses))
        self.host.ip(
            f"route replace {_GATEWAY} dev eth0 scope link",
            f"route replace default via {_GATEWAY} dev eth0",
        )
        if len(self.addresses) > 1:
            self.host.ip(f"route replace default via {_GATEWAY6} dev eth0")
        self._home = host

    def detach(self) -> None:
        """Cut its wire."""
        if self._home is not None:
            self._home.ip(f"link delete {self.interface}")
            self._home = None


def _outward(host: Host) -> str:
    """A host's interface towards its network."""
    return "eth0" if "eth0" in host.run("ip", "-br", "link") else "eth1"
