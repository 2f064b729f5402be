"""Everybody who may look at a service, as a process of its own: `python -m tests.reflector.looking URL`.

A page, a Prometheus and two event feeds ask until the process is terminated; then it says how often each path
was answered. Apart from whoever measures, so that reading the answers is no part of what is measured.
"""

import asyncio
import json
import signal
import sys
from contextlib import suppress

import aiohttp

LOOKS = {
    "/metrics": 5.0, "/api/v1/status": 5.0, "/api/v1/peers?limit=50": 5.0, "/api/v1/graph": 5.0,
    "/api/v1/samples": 2.0,
}  # fmt: skip


async def main(url: str) -> None:
    answers: dict[str, int] = {}

    async def look(client: aiohttp.ClientSession, path: str, every: float) -> None:
        while True:
            async with client.get(path) as answer:
                assert answer.status == 200
                await answer.read()
            answers[path] = answers.get(path, 0) + 1
            await asyncio.sleep(every)

    async def follow(client: aiohttp.ClientSession) -> None:
        async with client.get("/api/v1/events", headers={"Accept": "text/event-stream"}) as feed:
            async for _ in feed.content:
                answers["events"] = answers.get("events", 0) + 1

    async with aiohttp.ClientSession(url) as client:
        work = asyncio.gather(
            *(look(client, *each) for each in LOOKS.items()), follow(client), follow(client)
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
        print("looking", flush=True)
        with suppress(asyncio.CancelledError):
            await work
    print(json.dumps(answers), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
