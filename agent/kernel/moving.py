"""Another table or protocol number takes the routes along.

Routes are the agent's by table and protocol number. An agent that is started with others than the one before
it would leave what that one wrote for ever, or even find it in its way as another program's. So the run
directory's ``kernel.json`` names the places where routes of ours may be, and before all else those elsewhere
are moved: written where they belong now, as they are, then removed where they were. Nothing is forgotten by
that: what nobody wants any more is a former life's route like any other, to be swept when the picture is
complete.

While it goes on the file names both places, so it may be broken off anywhere. In the same table a route is
replaced in one step; removal names table and protocol number, so that the kernel itself refuses to remove
another's.
"""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from functools import partial
from pathlib import Path

import structlog

from agent.config import PROTOCOLS_TAKEN
from agent.kernel import message
from agent.kernel.message import ANY, Place, RouteEntry
from agent.kernel.netlink import BATCH, KernelError, RouteSocket
from bgpd.notes import read_note, unusable, write_whole

FILE = "kernel.json"
log = structlog.get_logger("agent.kernel")


async def move(directory: Path, place: Place) -> None:
    """Have all routes of ours at `place`, and `directory` say so. What fails is said, and tried next time."""
    file, here = directory / FILE, (place.table, place.protocol)
    former = [each for each in _places(file) if each != here]
    try:
        _note(file, [here, *former])
        for table, protocol in former:
            moved = await _move(Place(table, place.metric, protocol), place)
            log.warning("routes have moved", routes=moved, table=table, protocol=protocol, to=here)
        _note(file, [here])
    except (KernelError, OSError) as error:
        log.error("where routes of ours are is not as it should be", file=str(file), reason=str(error))


def forget(directory: Path, place: Place) -> None:
    """No route of ours is at `place` any more. Where else some may be is not forgotten."""
    file = directory / FILE
    if all(each == (place.table, place.protocol) for each in _places(file)):
        file.unlink(missing_ok=True)


def _places(file: Path) -> list[tuple[int, int]]:
    try:
        places = [(int(table), int(protocol)) for table, protocol in read_note(file)]
    except (OSError, ValueError, TypeError) as error:
        unusable(file, error)
        return []
    return [
        (table, protocol)
        for table, protocol in places  # as a configuration may have them: any other is not ours
        if 1 <= table < 1 << 32 and 5 <= protocol < 1 << 8 and protocol not in PROTOCOLS_TAKEN
    ]


def _note(file: Path, places: list[tuple[int, int]]) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(file, json.dumps(places))


async def _move(former: Place, place: Place) -> int:
    kernel = RouteSocket()
    try:
        found = [
            entry
            for family in (socket.AF_INET, socket.AF_INET6)
            for entry in kernel.dump(family, former.table, former.protocol)
        ]
        over = message.NLM_F_REPLACE if former.table == place.table else message.NLM_F_EXCL
        for start in range(0, len(found), BATCH):
            batch = found[start : start + BATCH]
            refused = kernel.write([partial(_pack, place, over, entry) for entry in batch])
            if codes := set(refused.values()) - {errno.EEXIST}:  # somebody else's is there, and stays
                names = ", ".join(errno.errorcode.get(code, str(code)) for code in sorted(codes))
                raise KernelError(f"a route cannot be written: {names}")
            for code in kernel.write([partial(_pack, former, None, entry) for entry in batch]).values():
                if code != errno.ESRCH:  # which says that it was replaced, or went by itself
                    raise KernelError(f"a route cannot be removed: {errno.errorcode.get(code, code)}")
            await asyncio.sleep(0)
    finally:
        kernel.close()
    return len(found)


def _pack(place: Place, over: int | None, entry: RouteEntry, extra: int, sequence: int) -> bytes:
    """The message that writes a route at a place (``over`` what is there, or not), or removes it (None)."""
    kind, flags, route = message.RTM_DELROUTE, extra, ANY
    if over is not None:
        kind, flags, route = message.RTM_NEWROUTE, extra | message.NLM_F_CREATE | over, entry.route
    place = place._replace(metric=entry.metric)
    return message.pack(kind, flags, sequence, entry.family, entry.nlri, place, route)
