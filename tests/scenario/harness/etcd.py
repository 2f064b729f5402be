"""A real etcd server on a host, written and read with the real `etcdctl`, as an operator would."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tests.scenario.harness.program import Program
from tests.scenario.harness.world import Host


class Etcd:
    """One server on `address` port 2379; its data lives in the host's directory and survives a restart.

    `settings` are more words for the server, `client` more for `etcdctl`; with `tls` it takes nothing else.
    """

    def __init__(
        self,
        host: Host,
        address: str,
        *,
        settings: Sequence[str] = (),
        client: Sequence[str] = (),
        tls: bool = False,
    ) -> None:
        self.host = host
        self.address = address
        self.client = client
        self.written = 0.0  # when `put` had last written (monotonic)
        self._settings = settings
        self._scheme = "https" if tls else "http"
        self._data = host.directory / "etcd"
        self.program = self._start()
        host.world.wait_until("etcd answering", self.healthy)

    @property
    def url(self) -> str:
        """For `etcdctl` and the Calico environment names."""
        return f"{self._scheme}://{self.address}:2379"

    @property
    def datastore(self) -> str:
        """For Cairn's `--datastore`."""
        return f"etcd://{self.address}:2379"

    def _start(self) -> Program:
        peer = "http://127.0.0.1:2380"
        return self.host.start(
            "etcd",
            *("etcd", "--name", "one", "--data-dir", self._data, "--unsafe-no-fsync"),
            *(
                "--listen-client-urls",
                self.url,
                "--advertise-client-urls",
                self.url,
            ),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"one={peer}", "--logger", "zap", "--log-level", "warn"),
            *self._settings,
        )

    def restart(self) -> None:
        """Start it again on its data, after it was stopped or killed; returns when it answers."""
        self.program = self._start()
        self.host.world.wait_until("etcd answering again", self.healthy)

    def healthy(self) -> bool:
        """Whether it answers a linearizable read."""
        words = ("etcdctl", "--endpoints", self.url, *self.client, "endpoint", "health")
        done = self.host.namespace.run(*words, check=False)
        return done.returncode == 0

    def put(self, values: Mapping[str, str]) -> None:
        """Write keys one after the other, each by `etcdctl put` with the value on its standard input."""
        for key, value in values.items():
            self.control("put", key, input=value)
        self.written = time.monotonic()

    def transaction(self, values: Mapping[str, str], deletions: Sequence[str] = ()) -> None:
        """Write and delete many keys at once, 100 to a transaction."""
        items = [f"put {json.dumps(key)} {json.dumps(value)}\n" for key, value in values.items()]
        items += [f"del {json.dumps(key)}\n" for key in deletions]
        for start in range(0, len(items), 100):
            self.control("txn", input=f"\n{''.join(items[start : start + 100])}\n\n")

    def delete(self, *keys: str) -> None:
        """Delete keys."""
        for key in keys:
            self.control("del", key)

    def read(self, prefix: str = "/") -> dict[str, str]:
        """Every key below a prefix with its value."""
        lines = self.control("get", "--prefix", prefix).splitlines()
        return dict(zip(lines[::2], lines[1::2], strict=True))

    def compact(self) -> int:
        """Forget the history up to now, as the periodic compaction of a cluster does; the revision."""
        status: list[dict[str, Any]] = json.loads(self.control("endpoint", "status", "-w", "json"))
        revision = int(status[0]["Status"]["header"]["revision"])
        self.control("compact", "--physical", str(revision))
        return revision

    def control(self, *words: str, input: str | None = None) -> str:
        """One `etcdctl` command and its answer."""
        return self.host.run("etcdctl", "--endpoints", self.url, *self.client, *words, input=input)
