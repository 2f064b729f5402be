"""Machines for walking through the documentation: namespaces with a name, an /etc and a /run of their own.

Some of them are booted: their first process is systemd, on a copy of this system's files. On the others the
unit's ExecStart is run where a page says `systemctl`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest
import typer

from tests.agent.ground import namespace, sh
from tests.docs.commands import TOP

ENTER = (  # a name, a /run and an /etc of its own, where only /etc is also seen from outside
    'hostname "$1" && mount -t tmpfs none /run && mkdir /run/cairn && '
    'mount -t overlay none -o "lowerdir=/etc,upperdir=$2/etc,workdir=$2/work" /etc && cd "$2" && shift 2 && '
    'exec "$@"'
)
BOOT = r"""
folder=$1 source=$2 packages=$3 python=$4 name=$5
mount -t tmpfs none "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay none -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
cd "$folder/root"
(cd usr/lib/systemd && rm -rf system-generators system/*.wants && mkdir system/sockets.target.wants)
ln -s ../systemd-journald.socket usr/lib/systemd/system/sockets.target.wants
rm -rf etc/systemd/system etc/fstab etc/cairn opt/cairn usr/local/bin/cairn
mkdir -p etc/systemd/system etc/cairn opt/cairn/source opt/cairn/packages opt/cairn/python
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for each in dev run tmp; do mount -t tmpfs none $each; done
for each in null zero full random urandom; do : >dev/$each; mount --bind /dev/$each dev/$each; done
mkdir dev/shm dev/pts
mount -t devpts -o newinstance,ptmxmode=0666 none dev/pts
ln -s /proc/self/fd pts/ptmx dev
mount --bind "$source" opt/cairn/source
mount --bind "$packages" opt/cairn/packages
mount --bind "${python%/bin/*}" opt/cairn/python
mkdir -p opt/cairn/.venv/bin usr/local/bin
cat >opt/cairn/.venv/bin/cairn <<END
#!/bin/sh
export PYTHONPATH=/opt/cairn/source:/opt/cairn/packages PYTHONDONTWRITEBYTECODE=1
export LD_LIBRARY_PATH=/opt/cairn/python/lib
exec /opt/cairn/python/bin/${python##*/} -m ctl "\$@"
END
chmod 755 opt/cairn/.venv/bin/cairn
ln -s /opt/cairn/.venv/bin/cairn usr/local/bin/cairn
cp opt/cairn/source/configs/systemd/*.service etc/systemd/system/
ln -s /lib/systemd/system/basic.target etc/systemd/system/default.target
echo "$name" >etc/hostname
pivot_root . mnt
umount -l /mnt
exec env -i container=cairn PATH="$PATH" /lib/systemd/systemd
"""
ENTER_BOOTED = (  # in a control group and namespaces of its own, below which all of it can be ended
    'echo 0 >"$1/cgroup.procs" && exec nsenter --net="/run/netns/$2" unshare --pid --fork --kill-child '
    '--mount --uts --ipc --cgroup sh -euc "$3" sh "$4" "$5" "$6" "$7" "$8"'
)
CGROUPS = Path("/sys/fs/cgroup")


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
            [*self.root, *self.called(words)], env=self.environment, input=given,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert code is None or done.returncode == code, (self.name, words, done.stdout, done.stderr)
        return done.stdout

    def serve(self, words: list[str]) -> None:
        with (self.folder / "service.log").open("ab") as log:
            self.begin(words, log)

    def begin(self, words: list[str], log: IO[Any]) -> subprocess.Popen[Any]:
        """Start what goes on until it is ended, at the latest with the machine."""
        begun = subprocess.Popen(
            [*self.root, *self.called(words)], env=self.environment, stdout=log, stderr=log
        )
        self.services.append(begun)
        return begun

    def called(self, words: list[str]) -> list[str]:
        """The words with the `cairn` that is meant here."""
        return installed(words)

    def stop(self) -> None:
        for service in reversed(self.services):
            service.send_signal(signal.SIGTERM if service is not self.services[0] else signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                service.wait(20)
            service.kill()
            service.wait()
            if service.stdout is not None:
                service.stdout.close()


class Booted(Machine):
    """A machine whose first process is systemd, with this checkout where the installer puts a release."""

    def called(self, words: list[str]) -> list[str]:
        """Its own: the checkout may lie where systemd puts a file system of its own, in /tmp for instance."""
        return ["/usr/local/bin/cairn", *words[1:]] if Path(words[0]).name == "cairn" else words

    @property
    def cgroup(self) -> Path:
        unified = CGROUPS / "unified"
        return (unified if unified.is_dir() else CGROUPS) / self.inside

    def start(self) -> None:
        self.folder.mkdir()
        self.cgroup.mkdir()
        packages, python = Path(typer.__file__).parents[1], Path(sys.executable).resolve()
        places = [self.folder, TOP, packages, python, self.name]
        words = ["sh", "-euc", ENTER_BOOTED, "sh", self.cgroup, self.inside, BOOT, *places]
        with (self.folder / "boot.log").open("w") as log:
            outer = subprocess.Popen([*map(str, words)], stderr=log)
        self.services.append(outer)
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        deadline = time.monotonic() + 60
        while not self.root or self.run(["systemctl", "is-active", "basic.target"], None) != "active\n":
            time.sleep(0.05)
            assert time.monotonic() < deadline, self.name
            if outer.poll() is not None:
                pytest.skip(f"systemd does not boot here: {(self.folder / 'boot.log').read_text()}")
            for first in children.read_text().split():
                if Path(f"/proc/{first}/comm").read_text() == "systemd\n":  # no longer the shell before it
                    self.root = ["nsenter", "-t", first, "-m", "-u", "-i", "-n", "-p", "-C"]

    def stop(self) -> None:
        super().stop()
        deadline = time.monotonic() + 60
        while self.cgroup.exists():
            assert time.monotonic() < deadline, self.cgroup
            for folder, _, _ in os.walk(self.cgroup, topdown=False):
                with contextlib.suppress(OSError):  # until what was in it is gone
                    Path(folder).rmdir()
            time.sleep(0.05)


def installed(words: list[str]) -> list[str]:
    """The words with the `cairn` of this checkout."""
    return [sys.executable, "-m", "ctl", *words[1:]] if Path(words[0]).name == "cairn" else words


@contextlib.contextmanager
def on_a_switch(
    folder: Path, length: int, booted: Collection[str] = (), **addresses: str
) -> Iterator[dict[str, Machine]]:
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
            machine = (Booted if word in booted else Machine)(name, inside, folder / name)
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
