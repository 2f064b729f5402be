"""The scalar values of the resources: how each is read, what range it has, and how it is written again.

Every annotated type here turns wire text into a value Python can work with and gives Calico's own spelling
back: an AS number may arrive as ``64512``, ``"64512"`` or ``"1.10"`` and leaves as a number; a duration
arrives and leaves as Go writes it (``1m30s``) and is a float of seconds between. Messages say what would be
accepted.
"""

import re
from datetime import datetime
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from bgpd.resources.selector import Selector

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
IPInterface = IPv4Interface | IPv6Interface

MAX_ASN = 2**32 - 1
MAX_RESTART_TIME = 4095
_ASDOT = re.compile(r"(\d{1,5})\.(\d{1,5})")
_GO_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_GO_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST_DURATION = 2**63 / 1e9
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?")


def within(prefix: IPNetwork, network: IPNetwork) -> bool:
    """Say whether ``prefix`` is ``network`` or lies inside it."""
    return (
        prefix.version == network.version
        and prefix.prefixlen >= network.prefixlen
        and int(prefix.network_address) & int(network.netmask) == int(network.network_address)
    )


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"write {what} as text, not {value!r}")
    return value


def read_number(value: object) -> object:
    """Refuse a truth value where a number belongs; all else is left as it is. Raises ``ValueError``."""
    if isinstance(value, bool):
        raise ValueError(f"a number is expected here, not {str(value).lower()}")
    return value


def read_asn(value: object) -> int:
    """Read an AS number written plainly or in asdot form. Raises ``ValueError``."""
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str):
        if value.isascii() and value.isdigit() and len(value) <= 100:
            number = int(value)
        elif found := _ASDOT.fullmatch(value):
            high, low = int(found[1]), int(found[2])
            number = (high << 16) + low if max(high, low) < 1 << 16 else None
    if number is None or not 1 <= number <= MAX_ASN:
        raise ValueError(f'an AS number is 1 to {MAX_ASN}, or asdot text such as "1.10", not {value!r:.60}')
    return number


def read_moment(value: str) -> str:
    """Check a time as RFC 3339 has it. Raises ``ValueError``."""
    try:
        known = datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        known = False
    if not known:
        raise ValueError(f'a time is written like "2026-01-31T12:00:00Z", not {value!r}')
    return value


def read_address(value: object) -> IPAddress:
    """Read an IPv4 or IPv6 address without zone or length. Raises ``ValueError``."""
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    try:
        address = ip_address(_text(value, "an address"))
    except ValueError:
        raise ValueError(f"{value!r} is no IPv4 or IPv6 address") from None
    _have_no_zone(value, address)
    return address


def _have_no_zone(value: object, address: IPAddress) -> None:
    """Raises ``ValueError``: a zone may be any text, and would stand in routers' configurations as it is."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError(f"{value!r} has a zone, which means nothing on another machine; leave it out")


def read_mac(value: object) -> str:
    """Read one device's MAC address; the kernel's spelling comes back. Raises ``ValueError``."""
    text = _text(value, "a MAC address").lower().replace("-", ":")
    if not _MAC.fullmatch(text) or int(text[1], 16) & 1 or not text.strip("0:"):
        raise ValueError(f"{value!r} is no MAC address of a device, such as 66:01:02:03:04:05")
    return text


def read_network(value: object) -> IPNetwork:
    """Read a CIDR; a bare address is a host route. Raises ``ValueError`` (host bits must be zero)."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    text = _text(value, "a CIDR")
    try:
        network = ip_network(text)
    except ValueError:
        pass
    else:
        _have_no_zone(value, network.network_address)
        return network
    try:
        masked = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{value!r} is no CIDR such as 10.0.0.0/16 or fd00::/48") from None
    raise ValueError(f"{value!r} has bits set beyond its length; did you mean {masked}?")


def read_host(value: object) -> IPNetwork:
    """Read one address, with its full length or without. Raises ``ValueError``."""
    if isinstance(value, IPv4Network | IPv6Network):
        network: IPNetwork = value
    else:
        text = _text(value, "an address")
        try:
            interface = ip_interface(text)
        except ValueError:
            raise ValueError(f"{value!r} is no address such as 10.0.0.1 or fd00::1") from None
        _have_no_zone(value, interface)
        network = interface.network
    if network.prefixlen != network.max_prefixlen:
        raise ValueError(f"{value!r} is more than one address; give each by itself")
    return network


def read_interface(value: object) -> IPInterface:
    """Read an address with its subnet's length (a bare address has the full length). Raises
    ``ValueError``.
    """
    if isinstance(value, IPv4Interface | IPv6Interface):
        return value
    try:
        interface = ip_interface(_text(value, "an address"))
    except ValueError:
        raise ValueError(f"{value!r} is no address with its subnet, such as 192.168.1.5/24") from None
    _have_no_zone(value, interface)
    return interface


def read_duration(value: object) -> float:
    """Read a duration as Go writes it (``90s``, ``1m30s``); seconds. Raises ``ValueError``."""
    if isinstance(value, float):
        return _bounded(value, value)
    text = _text(value, "a duration with its unit, such as 90s,")
    parts = list(_GO_DURATION.finditer(text))
    if text == "0":
        return 0.0
    if not parts or "".join(part[0] for part in parts) != text:
        raise ValueError(f"{value!r} is no duration such as 90s or 1m30s")
    return _bounded(sum(float(part[1]) * _GO_UNITS[part[2]] for part in parts), value)


def _bounded(seconds: float, value: object) -> float:
    if not 0 <= seconds < _LONGEST_DURATION:
        raise ValueError(f"{value!r:.60} is no duration: Go has 290 years for one")
    return seconds


def write_duration(seconds: float) -> str:
    """Write seconds as Go does: ``1h2m3s``, ``1.5s``, ``250ms``, ``0s``."""
    if seconds == 0:
        return "0s"
    if seconds < 1:
        return f"{_plain(seconds * 1e3, 6)}ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{hours}h" if hours else ""
    text += f"{minutes}m" if hours or minutes else ""
    return f"{text}{_plain(rest, 9)}s"


def _plain(number: float, places: int) -> str:
    """To the nanosecond, and without an exponent, which Go does not read."""
    return f"{number:.{places}f}".rstrip("0").rstrip(".")


def _fits_graceful_restart(value: float) -> float:
    if value > MAX_RESTART_TIME:
        raise ValueError(f"a restart time is 0s to {MAX_RESTART_TIME}s: the capability has 12 bits for it")
    return value


class Community(NamedTuple):
    """A standard (``aa:nn``, two numbers of 16 bits) or large (three of 32 bits) community."""

    numbers: tuple[int, ...]

    @property
    def is_large(self) -> bool:
        return len(self.numbers) == 3

    def __str__(self) -> str:
        return ":".join(map(str, self.numbers))


def read_community(value: object) -> Community:
    """Read ``aa:nn`` or ``aa:nn:mm``. Raises ``ValueError``."""
    if isinstance(value, Community):
        return value
    parts = _text(value, "a community (in quotes)").split(":")
    if len(parts) in (2, 3) and all(part.isascii() and part.isdigit() and len(part) <= 10 for part in parts):
        numbers = tuple(map(int, parts))
        if max(numbers) <= (0xFFFF if len(parts) == 2 else 0xFFFFFFFF):
            return Community(numbers)
    raise ValueError(
        f"{value!r} is no community: aa:nn with numbers up to 65535, or aa:nn:mm up to 4294967295"
    )


class PeerAddress(NamedTuple):
    """Where a peer listens: its address, and a port if one was declared."""

    address: IPAddress
    port: int | None

    def __str__(self) -> str:
        if self.port is None:
            return str(self.address)
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


def read_peer_address(value: object) -> PeerAddress:
    """Read ``192.0.2.1``, ``192.0.2.1:1790``, ``2001:db8::1`` or ``[2001:db8::1]:1790``. Raises
    ``ValueError``.
    """
    if isinstance(value, PeerAddress):
        return value
    text = _text(value, "a peer's address")
    host, port = text, ""
    if text.startswith("[") and "]" in text:
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or rest
        if rest and not rest.startswith(":"):
            raise ValueError(f"{value!r} is no address; write [{host}]:PORT")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        port = port or "?"
    address = read_address(host)
    if not port:
        return PeerAddress(address, None)
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise ValueError(f"the port in {value!r} is not a number from 1 to 65535")
    return PeerAddress(address, int(port))


def read_name(value: str) -> str:
    """Check the name of a resource. Raises ``ValueError``."""
    if _NAME.fullmatch(value) is None:
        raise ValueError(
            f"{value!r} is no name: letters, digits, '-', '_' and '.', at most 253, "
            "beginning and ending with a letter or digit"
        )
    return value


def _read_selector(value: str) -> str:
    Selector.parse(value)
    return value


def _read_cluster_id(value: object) -> IPv4Address:
    try:
        address = read_address(value)
    except ValueError:
        address = None
    if not isinstance(address, IPv4Address):
        raise ValueError(f"{value!r} is no cluster ID: it is written like an IPv4 address, such as 244.0.0.1")
    return address


def _address_v4(value: IPAddress) -> IPAddress:
    if value.version != 4:
        raise ValueError(f"{value} is an IPv6 address where an IPv4 address belongs")
    return value


def _address_v6(value: IPAddress) -> IPAddress:
    if value.version != 6:
        raise ValueError(f"{value} is an IPv4 address where an IPv6 address belongs")
    return value


def _ipv4(value: IPNetwork) -> IPNetwork:
    if value.version != 4:
        raise ValueError(f"{value} is an IPv6 CIDR in an IPv4 rule")
    return value


def _ipv6(value: IPNetwork) -> IPNetwork:
    if value.version != 6:
        raise ValueError(f"{value} is an IPv4 CIDR in an IPv6 rule")
    return value


_as_text = PlainSerializer(str, return_type=str)


def _schema(description: str, **more: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "description": description, **more})


Asn = Annotated[
    int,
    BeforeValidator(read_asn),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_ASN}, {"type": "string"}],
            "description": "AS number",
        }
    ),
]
Address = Annotated[IPAddress, BeforeValidator(read_address), _as_text, _schema("an IPv4 or IPv6 address")]
AddressV4 = Annotated[
    IPAddress,
    BeforeValidator(read_address),
    AfterValidator(_address_v4),
    _as_text,
    _schema("an IPv4 address"),
]
AddressV6 = Annotated[
    IPAddress,
    BeforeValidator(read_address),
    AfterValidator(_address_v6),
    _as_text,
    _schema("an IPv6 address"),
]
Mac = Annotated[str, BeforeValidator(read_mac), _schema("a device's MAC address")]
Cidr = Annotated[IPNetwork, BeforeValidator(read_network), _as_text, _schema("a CIDR")]
HostCidr = Annotated[
    IPNetwork, BeforeValidator(read_host), _as_text, _schema("an address, as it is or with /32 or /128")
]
CidrV4 = Annotated[
    IPNetwork, BeforeValidator(read_network), AfterValidator(_ipv4), _as_text, _schema("an IPv4 CIDR")
]
CidrV6 = Annotated[
    IPNetwork, BeforeValidator(read_network), AfterValidator(_ipv6), _as_text, _schema("an IPv6 CIDR")
]
InterfaceAddress = Annotated[
    IPInterface, BeforeValidator(read_interface), _as_text, _schema("an address with its subnet's length")
]
ClusterId = Annotated[
    IPv4Address, BeforeValidator(_read_cluster_id), _as_text, _schema("32 bits, written as IPv4")
]
Duration = Annotated[
    float,
    BeforeValidator(read_duration),
    PlainSerializer(write_duration, return_type=str),
    _schema("90s, 1m30s"),
]
RestartTime = Annotated[Duration, AfterValidator(_fits_graceful_restart)]
CommunityValue = Annotated[Community, BeforeValidator(read_community), _as_text, _schema("aa:nn or aa:nn:mm")]
Peer = Annotated[
    PeerAddress, BeforeValidator(read_peer_address), _as_text, _schema("address, address:port, [v6]:port")
]
Name = Annotated[str, AfterValidator(read_name)]
SelectorText = Annotated[str, AfterValidator(_read_selector)]
Moment = Annotated[str, AfterValidator(read_moment)]
NUMBER = BeforeValidator(read_number)  # behind the bounds, or the JSON Schema does not know them
Port = Annotated[int, Field(ge=1, le=65535), NUMBER]
Octet = Annotated[int, Field(ge=0, le=255), NUMBER]
