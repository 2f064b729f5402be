"""A real mosquitto on a free port, which tests kill, freeze and restart by its process id."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.ports import free_port


class Broker:
    def __init__(self, directory: Path, *settings: str, port: int = 0) -> None:
        self.port = port or free_port()
        self._config = directory / "mosquitto.conf"
        user = "user root\n" if os.geteuid() == 0 else ""
        lines = settings or ("allow_anonymous true",)
        self._config.write_text(f"{user}listener {self.port} 127.0.0.1\n" + "\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["mosquitto", "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise TimeoutError("mosquitto did not start")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it in an orderly way: it saves what it has to remember."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
        self._process = None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
