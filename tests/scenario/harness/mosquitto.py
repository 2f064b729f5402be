"""A real MQTT broker on a host, and what is retained in it."""

from __future__ import annotations

from tests.scenario.harness.program import Program
from tests.scenario.harness.world import Host


class Mosquitto:
    """mosquitto listening on one address, open to anybody in the namespaces."""

    def __init__(self, host: Host, address: str, port: int = 1883) -> None:
        self.host = host
        self.address = address
        self.port = port
        self._configuration = host.write(
            "mosquitto.conf",
            f"listener {port} {address}\nallow_anonymous true\npersistence false\n"
            "user root\nlog_dest stderr\n",
        )
        self.program = self._start()

    def _start(self) -> Program:
        return self.host.start("mosquitto", "mosquitto", "-c", self._configuration)

    def restart(self) -> None:
        """Start it again after it was stopped or killed; nothing retained survives that."""
        self.program = self._start()

    def retained(self, pattern: str = "#", seconds: int = 1) -> dict[str, str]:
        """Topic → payload of everything retained that matches; takes `seconds`."""
        shown = self.host.run(
            *("mosquitto_sub", "-h", self.address, "-p", str(self.port), "-t", pattern, "-v"),
            *("--retained-only", "-W", str(seconds)),
            check=False,  # it always ends by its time running out
        )
        return dict(line.split(" ", 1) for line in shown.splitlines() if " " in line)
