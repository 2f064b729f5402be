"""Who was connected, kept through our own restart: the clients that a prefix lets in and nobody names.

After a restart some speakers wait for us to connect and not we for them: FRR keeps our routes and does
nothing more until its restart time is over. So clients are looked for at the address they had, and End-of-RIB
waits until all of them have told their routes (RFC 4724 4.1). A line for each: its address, and ours.

The file lives where it outlasts the process and not the machine (`runDirectory`; systemd's RuntimeDirectory).
It says nothing that a client could not show by connecting: only addresses that the configuration lets in are
looked at. An unreadable file is no file; so is one that is not ours, larger than we write, or a link or a
pipe, as they may stand in a directory where others write too.
"""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import structlog

from bgpd.notes import contents

IPAddress = IPv4Address | IPv6Address
NAME = "clients"
LONGEST = 1 << 20  # octets: 20,000 clients and more

log = structlog.get_logger()


class Recall:
    """The clients last seen, in a file of `directory`; without one nothing is kept."""

    def __init__(self, directory: Path | None) -> None:
        self._path = directory / NAME if directory is not None else None
        self._written: Mapping[str, IPAddress] | None = None
        self._failing = False

    def read(self) -> dict[str, IPAddress]:
        """A client's address as text, and the address of ours that it knows."""
        if self._path is None:
            return {}
        try:
            pairs = [line.split() for line in contents(self._path, LONGEST).splitlines()]
            return {str(ip_address(client)): ip_address(ours) for client, ours in pairs}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("the clients of before the restart are not known", reason=str(error))
            return {}

    def write(self, clients: Mapping[str, IPAddress]) -> None:
        """Keep them, in one step, if anything has changed. What fails is tried again the next time."""
        if self._path is None or clients == self._written:
            return
        beside = self._path.with_suffix(".new")
        try:
            beside.unlink(missing_ok=True)
            with beside.open("x") as file:
                file.writelines(f"{client} {ours}\n" for client, ours in clients.items())
            beside.replace(self._path)
        except OSError as error:
            if not self._failing:
                log.warning("clients cannot be kept for a restart", reason=str(error))
            self._failing = True
        else:
            self._written, self._failing = dict(clients), False
