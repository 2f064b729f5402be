"""Ports for servers that a test starts, and perhaps starts again."""

import random
import socket
from itertools import cycle

# Below the range from which Linux takes the ports of outgoing connections: one of those would sooner or later
# sit on a port that its server has let go of, or not bound yet.
_RANGE = range(20000, 32000)
# None comes twice before all have come: a server's second port is not its first, which nobody listens on yet.
_PORTS = cycle(random.sample(_RANGE, len(_RANGE)))


def free_port() -> int:
    """A port on which nothing listens at any address of this machine."""
    while True:
        port = next(_PORTS)
        with socket.socket(socket.AF_INET6) as probe:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            try:
                probe.bind(("::", port))
            except OSError:
                continue
            return port
