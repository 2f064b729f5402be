"""Next hops made concrete: which link, which gateway (RFC 4271 §9.1.2.1, §5.1.3). Pure.

A BGP next hop may be anywhere: on a link of this node, behind a router of its rack, behind its default
gateway, or itself be known only by a route BGP has brought (another rack's subnet, told by the
top-of-rack router). `Resolver` looks it up in the routes that are not the agent's own, as the kernel
reported them, and in the learned routes given to it; the longest prefix decides, and a learned route's next
hop is looked up in turn, never through itself.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable

from agent.kernel.message import RouteEntry
from agent.kernel.route import Hop, RouteType
from agent.link_local import teller

_DEPTH = 4  # learned routes followed one after another
Learned = Callable[[int, bytes], tuple[bytes, ...] | None]  # (family, nlri) → its next hops


def truncate(address: bytes, length: int) -> bytes:
    """The NLRI of ``length`` bits that holds the address."""
    octets = length + 7 >> 3
    head = address[:octets]
    spare = -length % 8
    if spare:
        head = head[:-1] + bytes((head[-1] >> spare << spare,))
    return bytes((length,)) + head


class Resolver:
    """Longest-prefix lookup of next hops. Answers are kept until `changed` or `learned_changed`, and what was
    answered last is known until `forget`: of an event that changes no answer nothing follows.
    """

    def __init__(self, learned: Learned, *, default_route: bool = True) -> None:
        self._learned = learned
        self._default_route = default_route
        self._routes: dict[int, dict[bytes, RouteEntry]] = {socket.AF_INET: {}, socket.AF_INET6: {}}
        self._lengths: dict[int, tuple[int, ...]] = {socket.AF_INET: (), socket.AF_INET6: ()}
        self._learned_lengths: dict[int, set[int]] = {socket.AF_INET: set(), socket.AF_INET6: set()}
        self._covering: dict[int, set[bytes]] = {socket.AF_INET: set(), socket.AF_INET6: set()}
        self._links_up: frozenset[int] = frozenset()
        self._addresses: frozenset[bytes] = frozenset()
        self._cache: dict[bytes, tuple[Hop, ...]] = {}
        self._answered: dict[bytes, tuple[Hop, ...]] = {}  # lately, be it still right or not
        self._asked: list[tuple[int, bytes]] = []  # learned routes whose next hops are being found out
        self._left_out = 0  # how often one did not count because it was, or was one too many

    def changed(
        self, routes: Iterable[RouteEntry], links_up: Iterable[int], addresses: Iterable[bytes] = ()
    ) -> set[bytes]:
        """The node's own routes (without the agent's), usable links and own addresses, anew. The next hops
        that lead elsewhere than they were said to.
        """
        self._addresses = frozenset(addresses)
        self._links_up = frozenset(links_up)
        self._routes = {socket.AF_INET: {}, socket.AF_INET6: {}}
        for entry in routes:
            if entry.nlri == b"\0" and not self._default_route:
                continue
            if entry.route.type is RouteType.UNICAST and not self._usable(entry):
                continue  # it says nothing; the next best does
            known = self._routes[entry.family].get(entry.nlri)
            if known is None or (entry.metric, -entry.preference) < (known.metric, -known.preference):
                self._routes[entry.family][entry.nlri] = entry
        for family, table in self._routes.items():
            self._lengths[family] = tuple(sorted({nlri[0] for nlri in table}, reverse=True))
        self._cache.clear()
        answered, self._answered = self._answered, {}
        return {address for address, hops in answered.items() if self.resolve(address) != hops}

    @property
    def asked(self) -> int:
        """How many next hops are looked up anew with `changed`."""
        return len(self._answered)

    def forget(self) -> None:
        """Whoever has asked asks again."""
        self._cache.clear()
        self._answered.clear()
        for covering in self._covering.values():
            covering.clear()

    def learned_changed(self, family: int, nlri: bytes) -> bool:
        """A learned route came, went or changed. True if a next hop looked up may lead by way of it."""
        self._learned_lengths[family].add(nlri[0])
        if nlri not in self._covering[family]:
            return False
        self._cache.clear()
        return True

    def resolve(self, address: bytes) -> tuple[Hop, ...]:
        """The hops towards a next hop (4 or 16 octets; of 32, the global half, or what `link_local` says).
        Empty: unreachable.
        """
        found = self._cache.get(address)
        if found is None:
            before = self._left_out
            found = self._resolve(address, 0, frozenset())
            if not self._asked or self._left_out == before:  # else it is an answer for the asked ones alone
                self._cache[address] = self._answered[address] = found
        return found

    def _ask(self, family: int, nlri: bytes, depth: int = 0) -> tuple[bytes, ...] | None:
        """The next hops of a learned route. Which of several count depends on how far they are, so we are
        asked again meanwhile: `_asked` ones do not count for that, for a route never leads through itself.
        """
        if depth + len(self._asked) >= _DEPTH or (family, nlri) in self._asked:
            self._left_out += 1
            return None
        self._asked.append((family, nlri))
        try:
            return self._learned(family, nlri)
        finally:
            self._asked.pop()

    def _cover(self, address: bytes) -> None:
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        if truncate(address, len(address) * 8) not in self._covering[family]:
            self._covering[family].update(truncate(address, length) for length in range(len(address) * 8 + 1))

    def _resolve(self, next_hop: bytes, depth: int, visited: frozenset[bytes]) -> tuple[Hop, ...]:
        address = next_hop[:16]
        if (peer := teller(next_hop)) is not None:
            hops = self._resolve(peer, depth, visited)
            return tuple(Hop(address, hop.interface) for hop in hops if hop.gateway == peer)
        self._cover(address)
        if address in self._addresses:
            return ()  # RFC 4271 5.1.3: a route to ourselves is no route
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        own = self._routes[family]
        learned = self._learned_lengths[family]
        for length in sorted({*self._lengths[family], *learned}, reverse=True):
            nlri = truncate(address, length)
            if (entry := own.get(nlri)) is not None:
                return self._through(entry, address)
            if length in learned and nlri not in visited:
                next_hops = self._ask(family, nlri, depth)
                if next_hops and address not in next_hops:
                    found = {
                        hop
                        for following in next_hops
                        for hop in self._resolve(following, depth + 1, visited | {nlri})
                    }
                    if found:
                        return tuple(sorted(found))
        return ()

    def _usable(self, entry: RouteEntry) -> list[Hop]:
        return [hop for hop in entry.route.hops if hop.interface in self._links_up]

    def _through(self, entry: RouteEntry, address: bytes) -> tuple[Hop, ...]:
        """Empty: this route says that the address is unreachable."""
        if entry.route.type is not RouteType.UNICAST:
            return ()
        found = set()
        for hop in self._usable(entry):
            gateway = hop.gateway or address
            found.add(Hop(gateway, hop.interface, hop.onlink or self._hidden(gateway)))
        return tuple(sorted(found))

    def _hidden(self, gateway: bytes) -> bool:
        """Whether a learned route leads to it, though it is on a link: a router announced its own address.

        Linux takes no IPv6 gateway that it would reach by way of a gateway, unless told where it is.
        """
        if len(gateway) == 4:
            return False
        self._cover(gateway)
        own, learned = self._routes[socket.AF_INET6], self._learned_lengths[socket.AF_INET6]
        for length in sorted({*self._lengths[socket.AF_INET6], *learned}, reverse=True):
            nlri = truncate(gateway, length)
            if nlri in own:
                return False
            if length in learned and self._ask(socket.AF_INET6, nlri):
                return True
        return False
