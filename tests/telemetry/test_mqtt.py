"""The publisher against a real broker: absent, killed and back, frozen, refusing, with TLS and password."""

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from pydantic import BaseModel

from bgpd.telemetry import schema
from bgpd.telemetry.mqtt import MqttOptions, MqttPublisher
from tests.ports import free_port
from tests.telemetry.broker import Broker
from tests.telemetry.source import Source, peer

pytestmark = pytest.mark.peer("mosquitto")

FAST: dict[str, Any] = {"retry_first": 0.05, "retry_limit": 0.2, "timeout": 1.0, "status_every": 0.5}
TOPIC = "cairn/v1/agent/node-a"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path, "allow_anonymous true", "persistence true", f"persistence_location {tmp_path}/")
    yield broker
    broker.kill()


@pytest.fixture
def source() -> Source:
    source = Source()
    source.peer_list = [peer("rr1")]
    return source


@asynccontextmanager
async def publishing(source: Source, options: MqttOptions) -> AsyncIterator[MqttPublisher]:
    publisher = MqttPublisher(source, options)
    publisher.start()
    try:
        yield publisher
    finally:
        await publisher.stop()


class Listener:
    """Everything published below a topic, as documents."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.statuses: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.retained: list[bool] = []
        self.peers: dict[str, dict[str, Any] | None] = {}
        self.summaries = 0

    async def run(self, options: MqttOptions, ready: asyncio.Event) -> None:
        async with aiomqtt.Client(
            options.host, options.port, identifier=self.name, clean_session=False
        ) as client:
            await client.subscribe("cairn/#", qos=1)
            ready.set()
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                if "/peers/" in str(message.topic):
                    self._summary(str(message.topic).rpartition("/")[2], message.payload)
                    continue
                if not message.payload:
                    continue
                shape = _shape_of(str(message.topic), message.payload)
                shape.model_validate_json(message.payload, strict=True)
                kept = self.statuses if str(message.topic).endswith("/status") else self.events
                kept.append(json.loads(message.payload))
                self.retained.append(message.retain)

    def _summary(self, name: str, payload: bytes) -> None:
        self.summaries += 1
        if payload:
            schema.PeerSummary.model_validate_json(payload, strict=True)
        self.peers[name] = json.loads(payload) if payload else None


def _shape_of(topic: str, payload: bytes) -> type[BaseModel]:
    if topic.endswith("/events"):
        return schema.Event
    return schema.Online if json.loads(payload)["state"] == "online" else schema.Offline


@asynccontextmanager
async def listening(options: MqttOptions, name: str = "listener") -> AsyncIterator[Listener]:
    listener, ready = Listener(name), asyncio.Event()
    task = asyncio.create_task(listener.run(options, ready))
    await asyncio.wait_for(ready.wait(), 5)
    try:
        yield listener
    finally:
        task.cancel()
        await asyncio.wait({task})


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.01)


async def test_status_is_retained_events_arrive_and_goodbye_is_said(broker: Broker, source: Source) -> None:
    broker.start()
    options = MqttOptions("127.0.0.1", broker.port, **FAST)
    async with publishing(source, options) as publisher:
        await until(lambda: publisher.connected)
        async with listening(options) as listener:
            await until(lambda: listener.statuses)
            assert listener.statuses[0]["state"] == "online"
            assert listener.statuses[0]["peers"]["established"] == 1
            source.ring.add(5.0, "session.down", "rr1 is down", peer="rr1", reason="hold timer expired")
            await until(lambda: listener.events)
    event = listener.events[0]
    assert (event["version"], event["kind"], event["peer"]) == (1, "session.down", "rr1")
    assert event["data"] == {"reason": "hold timer expired"}
    async with listening(options, "late") as late:
        await until(lambda: late.statuses)
    assert late.retained == [True]
    assert (late.statuses[0]["state"], late.statuses[0]["reason"]) == ("offline", "stopped")


async def test_who_leaves_for_good_leaves_nothing_on_the_broker(broker: Broker, source: Source) -> None:
    broker.start()
    source.peer_list = [peer(f"rr{number}") for number in range(25)]
    options = MqttOptions("127.0.0.1", broker.port, peers_per_status=10, **FAST)
    publisher = MqttPublisher(source, options)
    publisher.start()
    retained: list[str] = []
    async with listening(options) as listener:
        await until(lambda: len(listener.peers) == 25)
        await publisher.stop(leaving=True)
        await until(lambda: all(told is None for told in listener.peers.values()))
    async with aiomqtt.Client("127.0.0.1", broker.port) as late:
        await late.subscribe("cairn/#")
        await late.subscribe("mark")
        await late.publish("mark", b"")
        async for message in late.messages:
            if str(message.topic) == "mark":
                break
            retained.append(str(message.topic))
    assert retained == []


async def test_the_broker_says_offline_when_we_vanish(broker: Broker, source: Source) -> None:
    broker.start()
    options = MqttOptions("127.0.0.1", broker.port, **FAST)
    publisher = MqttPublisher(source, options)
    publisher.start()
    await until(lambda: publisher.connected)
    async with listening(options) as listener:
        await until(lambda: listener.statuses)
        broker_side = [status["state"] for status in listener.statuses]
        assert set(broker_side) == {"online"}
        _cut(publisher)
        await until(lambda: listener.statuses[-1]["state"] == "offline")
        assert listener.statuses[-1]["reason"] == "lost"
        await until(lambda: listener.statuses[-1]["state"] == "online")
    await publisher.stop()


def _cut(publisher: MqttPublisher) -> None:
    """Close the socket below the client, as a crash does."""
    assert publisher.client is not None
    sock = publisher.client._client.socket()
    assert sock is not None
    with socket.socket(fileno=os.dup(sock.fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)


async def test_broker_absent_then_there(broker: Broker, source: Source) -> None:
    options = MqttOptions("127.0.0.1", broker.port, buffer=10, **FAST)
    broker.start()
    async with listening(options):
        pass  # from now on the broker keeps for the listener what it misses
    broker.stop()
    async with publishing(source, options) as publisher:
        for number in range(25):
            source.ring.add(float(number), "session.down" if number % 2 else "session.up", str(number))
        assert publisher.queued == 10
        assert publisher.dropped == 15
        broker.start()
        async with listening(options) as listener:
            await until(lambda: len(listener.events) >= 11)
        summary, *rest = listener.events
        assert summary["kind"] == "events.dropped"
        assert summary["data"] == {"session.up": 8, "session.down": 7}
        assert [event["message"] for event in rest] == [str(number) for number in range(15, 25)]
        await until(lambda: publisher.queued == publisher.dropped == 0)


async def test_broker_killed_and_back_loses_nothing(broker: Broker, source: Source) -> None:
    broker.start()
    options = MqttOptions("127.0.0.1", broker.port, **FAST)
    async with publishing(source, options) as publisher:
        await until(lambda: publisher.connected)
        source.ring.add(1.0, "x", "before")
        await until(lambda: publisher.published == 1)
        broker.kill()
        for number in range(20):
            source.ring.add(2.0, "x", f"away {number}")
        await until(lambda: not publisher.connected)
        broker.start()
        async with listening(options) as listener:
            source.ring.add(3.0, "x", "after")
            await until(lambda: publisher.queued == 0)
            await until(lambda: any(event["message"] == "after" for event in listener.events))
        assert publisher.dropped == 0
        assert publisher.published == 22


async def test_frozen_broker_neither_blocks_nor_grows(broker: Broker, source: Source) -> None:
    broker.start()
    options = MqttOptions("127.0.0.1", broker.port, buffer=100, **FAST)
    async with publishing(source, options) as publisher:
        await until(lambda: publisher.connected)
        async with listening(options) as listener:
            broker.signal(signal.SIGSTOP)
            try:
                for number in range(5000):
                    source.ring.add(1.0, "x", str(number))
                    if number % 500 == 0:
                        await asyncio.sleep(0.05)
                assert publisher.queued == 100
                await until(lambda: not publisher.connected)
            finally:
                broker.signal(signal.SIGCONT)
            await until(lambda: any(event["message"] == "4999" for event in listener.events))
            await until(lambda: publisher.queued == publisher.dropped == 0)


async def test_a_cluster_that_lost_its_broker_does_not_come_back_in_step(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: dict[MqttPublisher, list[float]] = {}

    async def refused(publisher: MqttPublisher) -> None:
        tried.setdefault(publisher, []).append(asyncio.get_running_loop().time())
        raise ConnectionRefusedError

    monkeypatch.setattr(MqttPublisher, "_session", refused)
    options = MqttOptions("127.0.0.1", 1, retry_first=0.2, retry_limit=0.2)
    publishers = [MqttPublisher(source, options) for _ in range(20)]
    for publisher in publishers:
        publisher.start()
    await until(lambda: len(tried) == 20 and all(len(times) >= 4 for times in tried.values()))
    for publisher in publishers:
        await publisher.stop()
    waits = [after - before for times in tried.values() for before, after in pairwise(times)]
    assert min(waits) < 0.15


async def test_refusing_broker_then_the_right_password(
    tmp_path: Path, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "cairn", "s3cret"], check=True)  # noqa: ASYNC221  nothing else runs yet
    broker = Broker(tmp_path, "allow_anonymous false", f"password_file {passwords}")
    try:
        wrong = MqttOptions("127.0.0.1", broker.port, user="cairn", password="wrong", **FAST)
        async with publishing(source, wrong) as publisher:
            source.ring.add(1.0, "x", "x")
            await until(lambda: "Connection refused" in caplog.text)
            broker.start()
            await until(lambda: "Not authorized" in caplog.text)
            assert caplog.text.count("not usable") == 2
            assert (publisher.connected, publisher.queued) == (False, 1)
        right = MqttOptions("127.0.0.1", broker.port, user="cairn", password="s3cret", **FAST)
        async with publishing(source, right) as publisher:
            source.ring.add(1.0, "x", "x")
            await until(lambda: publisher.published == 1)
    finally:
        broker.kill()
    assert "s3cret" not in repr(right)


# paho leaves a socket whose TLS handshake failed to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
async def test_tls(tmp_path: Path, source: Source) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(  # noqa: ASYNC221  nothing else runs yet
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=broker"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    broker = Broker(tmp_path, "allow_anonymous true", f"certfile {certificate}", f"keyfile {key}")
    broker.start()
    try:
        stranger = MqttOptions("127.0.0.1", broker.port, tls=True, **FAST)
        async with publishing(source, stranger) as publisher:
            await asyncio.sleep(0.5)
            assert not publisher.connected
        gc.collect()
        trusting = MqttOptions("127.0.0.1", broker.port, tls=True, ca=certificate, **FAST)
        async with publishing(source, trusting) as publisher:
            source.ring.add(1.0, "x", "x")
            await until(lambda: publisher.published == 1)
    finally:
        broker.kill()


async def test_summaries_of_peers_are_retained_and_go_with_the_peer(broker: Broker, source: Source) -> None:
    broker.start()
    source.peer_list = [peer("rr1"), peer("tor/1", "ACTIVE", last_reason="connection refused")]
    options = MqttOptions("127.0.0.1", broker.port, **FAST)
    async with publishing(source, options):
        async with listening(options) as listener:
            await until(lambda: len(listener.peers) == 2)
            tor = listener.peers["tor_1"]
            assert tor is not None
            assert (tor["name"], tor["state"], tor["last_reason"]) == (
                "tor/1",
                "ACTIVE",
                "connection refused",
            )
            source.peer_list = [peer("rr1", flaps=3)]
            await until(lambda: listener.peers["tor_1"] is None)
            await until(lambda: (listener.peers["rr1"] or {})["flaps"] == 3)
        async with listening(options, "late") as late:
            await until(lambda: late.peers)
            await until(lambda: late.statuses)
    assert set(late.peers) == {"rr1"}


async def test_peers_that_went_while_the_broker_was_away_are_cleared(broker: Broker, source: Source) -> None:
    broker.start()
    source.peer_list = [peer("rr1"), peer("tor")]
    options = MqttOptions("127.0.0.1", broker.port, **FAST)
    async with publishing(source, options) as publisher, listening(options) as listener:
        await until(lambda: len(listener.peers) == 2)
        source.peer_list = [peer("rr1")]
        _cut(publisher)
        await until(lambda: listener.peers["tor"] is None)


async def test_peers_of_a_former_life_are_cleared(broker: Broker, source: Source) -> None:
    broker.start()
    source.peer_list = [peer("rr1"), peer("tor/1")]
    options = MqttOptions("127.0.0.1", broker.port, **FAST)
    async with listening(options) as listener:
        async with publishing(source, options):
            await until(lambda: len(listener.peers) == 2)
        source.peer_list = [peer("rr1")]
        async with publishing(source, options):
            await until(lambda: listener.peers["tor_1"] is None)
        assert listener.peers["rr1"] is not None


async def test_a_clock_that_is_set_back_holds_nothing_up(broker: Broker, source: Source) -> None:
    broker.start()
    options = MqttOptions("127.0.0.1", broker.port, **FAST)
    now = time.time()
    publisher = MqttPublisher(source, options, clock=lambda: now)
    publisher.start()
    async with listening(options) as listener:
        await until(lambda: listener.statuses)
        now -= 3600
        seen = len(listener.statuses)
        await until(lambda: len(listener.statuses) > seen + 1)
    await publisher.stop()


async def test_a_host_that_cannot_be_asked_for_is_only_logged(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = MqttPublisher(source, MqttOptions("broker..example", **FAST))
    publisher.start()
    await until(lambda: "broker..example" in caplog.text)
    async with asyncio.timeout(30):
        await publisher.stop()


async def test_five_thousand_flapping_peers_are_summarised_at_a_bounded_rate(
    broker: Broker, source: Source
) -> None:
    broker.start()
    source.peer_list = [peer(f"node-{number}") for number in range(5000)]
    options = MqttOptions("127.0.0.1", broker.port, peers_per_status=20, **FAST)
    async with publishing(source, options), listening(options) as listener:
        rounds = 0
        while listener.summaries < 60:
            rounds += 1
            source.peer_list = [peer(f"node-{number}", flaps=rounds) for number in range(5000)]
            await asyncio.sleep(0.05)
        online = [status for status in listener.statuses if status["state"] == "online"]
        assert listener.summaries <= 20 * (len(online) + 1)


async def test_a_slow_broker_delays_nobody_and_gets_everything(broker: Broker, source: Source) -> None:
    broker.start()
    async with slow_way_to(broker.port) as port, listening(MqttOptions("127.0.0.1", broker.port)) as listener:
        options = MqttOptions("127.0.0.1", port, buffer=50, **{**FAST, "timeout": 20.0})
        async with publishing(source, options) as publisher:
            await until(lambda: publisher.connected)
            for number in range(400):
                source.ring.add(1.0, "x", str(number))
                assert publisher.queued <= 50
            await until(lambda: any(event["message"] == "399" for event in listener.events))
            await until(lambda: publisher.queued == publisher.dropped == 0)
            told = sum(event["id"] > 0 for event in listener.events)
            lost = sum(event["data"].get("x", 0) for event in listener.events if event["id"] == 0)
            assert told + lost == 400


@asynccontextmanager
async def slow_way_to(port: int) -> AsyncIterator[int]:
    """A port that leads to a broker, and on which everything takes a while."""
    running: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(200):
            await asyncio.sleep(0.02)
            writer.write(data)

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        ways = {asyncio.create_task(carry(reader, back)), asyncio.create_task(carry(there, writer))}
        running.update(ways)
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, back):
            end.close()
            with suppress(OSError):
                await end.wait_closed()

    async with await asyncio.start_server(accepted, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        for task in running:
            task.cancel()
        await asyncio.sleep(0.05)


async def test_stopping_without_a_broker_is_quick(source: Source) -> None:
    publisher = MqttPublisher(source, MqttOptions("127.0.0.1", free_port(), **FAST))
    publisher.start()
    source.ring.add(1.0, "x", "x")
    await asyncio.sleep(0.1)
    async with asyncio.timeout(2):
        await publisher.stop()
    source.ring.add(1.0, "x", "y")
    assert publisher.queued == 1
