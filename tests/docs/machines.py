"""Machines for walking through the documentation: namespaces with a name, an /etc and a /run of their own.

What is not as on real ones: where a page says `systemctl`, the unit's ExecStart is run, because there is no
systemd in a namespace.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.agent.ground import namespace, sh
from tests.docs.test_documents import TOP

ENTER = (  # a name, a /run and an /etc of its own, where only /etc is also seen from outside
    'hostname "$1" && mount -t tmpfs none /run && mkdir /run/cairn && '
    'mount -t overlay none -o "lowerdir=/etc,upperdir=$2/etc,workdir=$2/work" /etc && cd "$2" && shift 2 && '
    'exec "$@"'
)


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CAIRN_", "ETCD_"))}
    return {**kept, "PYTHONPATH": str(TOP), "COLUMNS": "200"}


@dataclass
class Machine:
    """A namespace with its own name, /etc and /run."""

    name: str
    inside: str
    folder: Path
    services: list[subprocess.Popen[Any]] = field(default_factory=list)
    root: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=environment)

    def start(self) -> None:
        """The machine itself: a process whose namespaces later ones enter."""
        (self.folder / "etc").mkdir(parents=True)
        (self.folder / "work").mkdir()
        words = ["ip", "netns", "exec", self.inside, "unshare", "-mu", "sh", "-c", ENTER, "sh"]
        anchor = subprocess.Popen(
            [*words, self.name, str(self.folder), "sh", "-c", "echo up; exec sleep 600"],
            stdout=subprocess.PIPE,
        )
        self.services.append(anchor)
        assert anchor.stdout is not None
        assert anchor.stdout.readline() == b"up\n"
        self.root = ["nsenter", "-t", str(anchor.pid), "-n", "-m", "-u", f"--wd={self.folder}"]

    def write(self, path: str, text: str) -> None:
        subprocess.run(
            [*self.root, "sh", "-c", f"mkdir -p {Path(path).parent} && cat > {path}"],
            input=text, text=True, check=True,
        )  # fmt: skip

    def run(self, words: list[str], code: int | None = 0, given: str | None = None) -> str:
        done = subprocess.run(
            [*self.root, *installed(words)], env=self.environment, input=given,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert code is None or done.returncode == code, (self.name, words, done.stdout, done.stderr)
        return done.stdout

    def serve(self, words: list[str]) -> None:
        with (self.folder / "service.log").open("ab") as log:
            self.services.append(
                subprocess.Popen(
                    [*self.root, *installed(words)], env=self.environment, stdout=log, stderr=log
                )
            )

    def stop(self) -> None:
        for service in reversed(self.services):
            service.send_signal(signal.SIGUSR2 if service is not self.services[0] else signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                service.wait(20)
            service.kill()
            service.wait()
            if service.stdout is not None:
                service.stdout.close()


def installed(words: list[str]) -> list[str]:
    """The words with the `cairn` of this checkout."""
    return [sys.executable, "-m", "ctl", *words[1:]] if Path(words[0]).name == "cairn" else words


@contextlib.contextmanager
def on_a_switch(folder: Path, length: int, **addresses: str) -> Iterator[dict[str, Machine]]:
    """Machines in one subnet, by name (`_` for `-`); one called etcd runs etcd and is stopped last."""
    with contextlib.ExitStack() as stack:
        switch = stack.enter_context(namespace("switch"))
        sh(f"ip -n {switch} link add br0 type bridge && ip -n {switch} link set br0 up")
        found = {}
        for word, address in addresses.items():
            name = word.replace("_", "-")
            inside = stack.enter_context(namespace(name))
            sh(f"ip -n {switch} link add to-{name} type veth peer name eth0 netns {inside}")
            sh(f"ip -n {switch} link set to-{name} master br0 up")
            sh(f"ip -n {inside} addr add {address}/{length} dev eth0 && ip -n {inside} link set eth0 up")
            sh(f"ip -n {inside} route add default via 10.0.0.254")
            sh(f"ip netns exec {inside} sysctl -qw net.ipv4.ip_forward=1")
            machine = Machine(name, inside, folder / name)
            stack.callback(machine.stop)
            machine.start()
            found[name] = machine
        location = f"http://{addresses['etcd']}:2379"
        found["etcd"].serve(
            ["etcd", "--data-dir", str(folder / "data"), "--listen-client-urls", location,
             "--advertise-client-urls", location, "--log-level", "error"]
        )  # fmt: skip
        yield found


def eventually(machine: Machine, words: list[str], what: str) -> str:
    deadline = time.monotonic() + 60
    while what not in (seen := machine.run(words, None)):
        assert time.monotonic() < deadline, (machine.name, words, seen)
        time.sleep(0.1)
    return seen
