"""Count every lost echo: an ICMP echo every 10 ms with exact account of the sequence numbers.

`Pinger` runs this file as a program on a host. `ping` would do to see *whether* something was lost; but it
does not wait for the answers still under way when it is stopped, and says nothing about requests the kernel
refused to send. Here a request is lost unless its own answer arrives, at the latest a second and a half after
the last one was sent; a refused request ("network unreachable") is lost too.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.scenario.harness.world import Host

LAST_CALL = 1.5


@dataclass(frozen=True, slots=True)
class Losses:
    """What became of the echoes: how many, which got no answer and when (monotonic) they were sent, which the
    kernel refused (number: errno).
    """

    sent: int
    lost: tuple[int, ...]
    lost_at: tuple[float, ...]
    refused: dict[str, int]
    duplicates: int
    interval: float

    @property
    def longest_gap(self) -> float:
        """The longest time without an answer, in seconds."""
        longest = run = previous = 0
        for number in self.lost:
            run = run + 1 if number == previous + 1 else 1
            longest = max(longest, run)
            previous = number
        return longest * self.interval

    def __str__(self) -> str:
        shown = f"{self.lost[:10]}…" if len(self.lost) > 10 else str(self.lost)
        return (
            f"{len(self.lost)} of {self.sent} echoes lost {shown}, the longest gap {self.longest_gap:.2f} s, "
            f"refused {self.refused or 'none'}, {self.duplicates} duplicates"
        )


class Pinger:
    """Echoes from a host to an address, from now until `finish`."""

    def __init__(self, host: Host, target: str, interval: float = 0.01) -> None:
        self.target = target
        self._report = host.directory / f"echo-{target.replace(':', '_')}-{time.monotonic_ns()}.json"
        argv = (sys.executable, "-I", "-S", __file__, target, str(interval), self._report)
        self._program = host.start(f"pinger-{target.replace(':', '_')}", *argv)
        self._world = host.world

    def begun(self) -> None:
        """Return once it sends."""
        self._world.wait_until("echoes being sent", self._report.with_suffix(".begun").exists)

    def finish(self) -> None:
        """Send no more. The last answers may still come, for `LAST_CALL`."""
        self.begun()
        assert self._program.returncode is None, f"the pinger ended by itself\n{self._program.tail()}"
        self._program.signal(signal.SIGTERM)

    def losses(self) -> Losses:
        """Wait for the last answers and give the account; after `finish`."""
        ended_with = self._program.wait(60.0)
        assert ended_with == 0, f"the pinger failed\n{self._program.tail()}"
        report = json.loads(self._report.read_text())
        return Losses(
            sent=report["sent"],
            lost=tuple(report["lost"]),
            lost_at=tuple(report["lost_at"]),
            refused=report["refused"],
            duplicates=report["duplicates"],
            interval=report["interval"],
        )

    def stop(self) -> Losses:
        """`finish`, then `losses`."""
        self.finish()
        return self.losses()


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _request(version: int, token: bytes, number: int) -> bytes:
    payload = struct.pack("!Q", number) + token
    kind = 8 if version == 4 else 128
    check = 0
    if version == 4:  # for ICMPv6 the kernel fills it in
        check = _checksum(struct.pack("!BBHHH", kind, 0, 0, os.getpid() & 0xFFFF, number & 0xFFFF) + payload)
    return struct.pack("!BBHHH", kind, 0, check, os.getpid() & 0xFFFF, number & 0xFFFF) + payload


def _answered(version: int, token: bytes, packet: bytes) -> int | None:
    """The number of the request this packet answers; None if it is something else."""
    message = packet[(packet[0] & 0x0F) * 4 :] if version == 4 else packet
    if len(message) < 32 or message[0] != (0 if version == 4 else 129) or message[16:32] != token:
        return None
    return int.from_bytes(message[8:16], "big")


def main(target: str, interval: float, report: Path) -> None:
    """Send and count until SIGTERM, then write the account as JSON."""
    version = 6 if ":" in target else 4
    if version == 4:
        link = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    else:
        link = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    link.setblocking(False)
    stopping: list[float] = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(time.monotonic()))
    report.with_suffix(".begun").touch()
    token = os.urandom(16)
    waiting: dict[int, float] = {}  # number → when it was sent
    refused: dict[int, int] = {}
    duplicates = 0
    number = 0
    due = time.monotonic()
    while True:
        now = time.monotonic()
        if stopping:
            if not waiting or now > stopping[0] + LAST_CALL:
                break
            pause = min(0.05, stopping[0] + LAST_CALL - now)
        else:
            if now >= due:
                number += 1
                waiting[number] = now
                due = max(
                    due + interval, now - 1.0
                )  # after a stall of this process: catch up one second at most
                try:
                    link.sendto(_request(version, token, number), (target, 0))
                except OSError as error:
                    refused[number] = error.errno or 0
            pause = max(0.0, due - time.monotonic())
        readable, _, _ = select.select([link], [], [], max(0.0, pause))
        while readable:
            try:
                packet = link.recv(2048)
            except BlockingIOError:
                break
            except OSError:
                continue
            answer = _answered(version, token, packet)
            if answer is not None and waiting.pop(answer, None) is None:
                duplicates += 1
    link.close()
    account = {
        "sent": number,
        "lost": list(waiting),
        "lost_at": list(waiting.values()),
        "refused": refused,
        "duplicates": duplicates,
        "interval": interval,
    }
    report.write_text(json.dumps(account))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]))
