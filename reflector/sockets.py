"""TCP sockets as BGP wants them: listening, connecting, TCP MD5, TTL security.

Linux only. TCP MD5 keys (RFC 2385) are set on the listening socket per peer address or prefix, so a
segment with a wrong or missing signature never reaches us; keys of one peer change without touching
another's. GTSM (RFC 5082) is IP_MINTTL, which the kernel checks for every segment of the connection.
"""

import contextlib
import errno
import fcntl
import resource
import socket
import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from bgpd.telemetry.descriptors import DESCRIPTORS

TCP_MD5SIG_EXT = 32
TCP_MD5SIG_FLAG_PREFIX = 1
TCP_MD5SIG_MAXKEYLEN = 80
IP_MINTTL = 21
IPV6_MINHOPCOUNT = 73
IP_PKTOPTIONS, IP_RECVTTL = 9, 12
IPV6_2292PKTOPTIONS, IPV6_2292HOPLIMIT = 6, 8
BACKLOG = 65535  # as much as net.core.somaxconn allows
SEND_BUFFER_OCTETS = 1 << 20
FOR_LISTENING = 36  # of the DESCRIPTORS, the uppermost
FOR_DECLARED = 16  # one in so many, next to those

_MD5SIG = struct.Struct("=128sBBHI80s")
_HOPS = struct.Struct("@Niii")  # a control message with an `int`


class SocketError(OSError):
    """A socket option or address the system refused, in words."""


def sockaddr(address: IPv4Address | IPv6Address, port: int = 0) -> bytes:
    """A `struct sockaddr_in` or `sockaddr_in6` in the host's layout."""
    if address.version == 4:
        return struct.pack("=HH4s", socket.AF_INET, socket.htons(port), address.packed)
    return struct.pack("=HHI16sI", socket.AF_INET6, socket.htons(port), 0, address.packed, 0)


def endpoint(address: str, port: int, near: str = "") -> tuple[str, int] | tuple[str, int, int, int]:
    """What `bind` and `connect` take. A link-local address says on which link (fe80::1%eth0), or is on that
    of `near`; raises OSError where there is no such link.
    """
    host, _, zone = address.partition("%")
    zone = zone or near.partition("%")[2]
    return (host, port, 0, socket.if_nametoindex(zone)) if zone else (host, port)


def remote_address(remote: tuple[str, int] | tuple[str, int, int, int]) -> str:
    """The address `accept` gives, with the link of a link-local one."""
    return f"{remote[0]}%{socket.if_indextoname(remote[3])}" if len(remote) == 4 and remote[3] else remote[0]


def bound(address: IPv4Address | IPv6Address, port: int) -> socket.socket:
    """A non-blocking socket about to `listen`, once it has its keys; raises SocketError."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = _uppermost(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC))
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # The answer to a connection comes from this socket: peers with TTL security want to see 255 in it.
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
        _make_roomy(sock)  # accepted connections inherit it
        sock.bind(endpoint(str(address), port))
    except OSError as error:
        sock.close()
        raise SocketError(error.errno, f"cannot listen on {address} port {port}: {_words(error)}") from error
    return sock


def listen(sock: socket.socket) -> None:
    """Let connections come; raises SocketError."""
    try:
        sock.listen(BACKLOG)
    except OSError as error:
        address, port = sock.getsockname()[:2]
        raise SocketError(error.errno, f"cannot listen on {address} port {port}: {_words(error)}") from error


def _words(error: OSError) -> str:
    return error.strerror or str(error)  # of a link that is not there, only the latter says anything


def _uppermost(sock: socket.socket) -> socket.socket:
    """The same socket by a descriptor above those of connections: it is the first one that a kill closes.

    Linux closes the files of a process that dies from the highest descriptor down. A peer that connects again
    the moment its session breaks is then refused. Otherwise the queue of the dying socket takes it, to reset
    it at once: OpenBGPD 7.7 sends the OPEN of such a connection once more on the next one, which ends that
    (RFC 6608) and with it a graceful restart.
    """
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = min(soft, DESCRIPTORS) - FOR_LISTENING
    with contextlib.suppress(OSError):  # where the limit leaves no room up there
        upper = socket.socket(fileno=fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, least))
        sock.close()
        return upper
    return sock


def is_ample(sock: socket.socket) -> bool:
    """Whether so many descriptors are left that a client may have one that nobody declared by itself.

    The system gives the lowest that is free. So a flood of such clients, of as many addresses as there may
    be, leaves some for declared peers, and for all else that opens a file.
    """
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(soft, DESCRIPTORS)
    return sock.fileno() < most - most // FOR_DECLARED


def unconnected(address: str, local: IPv4Address | IPv6Address | None) -> socket.socket:
    """A non-blocking socket about to connect to `address`, bound to `local` when given."""
    family = socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    _make_roomy(sock)
    if local is not None:
        try:
            sock.bind(endpoint(str(local), 0, near=address))
        except OSError as error:
            sock.close()
            raise SocketError(error.errno, f"cannot connect from {local}: {_words(error)}") from error
    return sock


def _make_roomy(sock: socket.socket) -> None:
    """What every BGP connection has: no Nagle delay, room for a burst."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_OCTETS)


def end_at_once(sock: socket.socket) -> None:
    """Have `close` end the connection with a reset, whatever is still on its way.

    For one on which GTSM let nothing through: the peer's acknowledgements do not count either, so that an
    orderly end would not get past the first segments, and it would hold on to the connection until its hold
    timer is over, and refuse a new one meanwhile.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def set_md5(sock: socket.socket, peer: IPv4Network | IPv6Network, key: str | None) -> None:
    """Require (or, with None, no longer require) TCP MD5 from every address of `peer`."""
    raw = (key or "").encode()
    if len(raw) > TCP_MD5SIG_MAXKEYLEN:
        raise SocketError(
            0, f"the password for {peer} has {len(raw)} octets; TCP MD5 allows {TCP_MD5SIG_MAXKEYLEN}"
        )
    option = _MD5SIG.pack(
        sockaddr(peer.network_address).ljust(128, b"\0"),
        TCP_MD5SIG_FLAG_PREFIX,
        peer.prefixlen,
        len(raw),
        0,
        raw,
    )
    try:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG_EXT, option)
    except OSError as error:
        if key is None and error.errno == errno.ENOENT:  # there was no key, which is what we want
            return
        why = error.strerror
        if error.errno == errno.ENOMEM:  # some 140 octets for each key of a socket
            why = f"{why}; raise net.core.optmem_max, which bounds the keys there may be"
        raise SocketError(error.errno, f"TCP MD5 for {peer}: {why}") from error


def set_ttl(sock: socket.socket, *, security_hops: int | None, multihop: int | None, external: bool) -> None:
    """TTL of a connection: GTSM when `security_hops` is given, else 1 for a direct external peer.

    With GTSM, packets leave with TTL 255 and must arrive with at least 256 - hops; 1 hop means a directly
    connected peer (RFC 5082 3). `multihop` lifts the limit of external peers to that many.
    """
    ipv6 = sock.family == socket.AF_INET6
    level, ttl = (
        (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) if ipv6 else (socket.IPPROTO_IP, socket.IP_TTL)
    )
    least = IPV6_MINHOPCOUNT if ipv6 else IP_MINTTL
    if security_hops is not None:
        sock.setsockopt(level, ttl, 255)
        sock.setsockopt(level, least, 256 - max(1, security_hops))
    elif external:
        sock.setsockopt(level, ttl, multihop or 1)
    elif multihop is not None:
        sock.setsockopt(level, ttl, multihop)


def forget_what_came_from_afar(sock: socket.socket, security_hops: int | None) -> None:
    """With GTSM, read away what an accepted connection brought before `set_ttl`, if it is from farther away.

    The kernel looks at the TTL of what arrives from then on; data may come with the handshake's last segment
    already, whole messages of it. Where that segment came from, the data did.
    """
    if security_hops is not None and _hops_of_handshake(sock) < 256 - max(1, security_hops):
        with contextlib.suppress(OSError):  # also: no more is there
            while sock.recv(1 << 16):
                pass


def _hops_of_handshake(sock: socket.socket) -> int:
    """The TTL of the segment that completed an accepted connection; 0 where the kernel does not tell."""
    if sock.family == socket.AF_INET6:
        level, wish, told = socket.IPPROTO_IPV6, IPV6_2292HOPLIMIT, IPV6_2292PKTOPTIONS
    else:
        level, wish, told = socket.IPPROTO_IP, IP_RECVTTL, IP_PKTOPTIONS
    try:
        sock.setsockopt(level, wish, 1)
        answer = sock.getsockopt(level, told, 64)
        sock.setsockopt(level, wish, 0)
    except OSError:
        return 0
    return int(_HOPS.unpack_from(answer)[3]) if len(answer) >= _HOPS.size else 0
