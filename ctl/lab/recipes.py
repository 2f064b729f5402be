"""The configuration files of the lab's services, and the commands that start them.

They are what an operator would write, no private way in: `cairn agent --config FILE`, `cairn reflector
--config FILE`, and `etcd` with a data directory of its own.
"""

import sys
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import yaml

from ctl.lab.layout import Layout, Member, Mode, Role

LEASE = 3.0  # seconds after which a node without power counts as dead
SYNC_WAIT = 5.0
AGENT_HTTP, REFLECTOR_HTTP, BGP, ETCD_CLIENT = 9178, 9179, 179, 2379


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens; on namespaces the usual ports, on loopback any that are free."""

    bgp: int = BGP
    agent_http: int = AGENT_HTTP
    reflector_http: int = REFLECTOR_HTTP
    etcd: int = ETCD_CLIENT
    etcd_peer: int = ETCD_CLIENT + 1


@dataclass(frozen=True, slots=True)
class Recipes:
    """Files below `directory` and argument lists for a lab's services."""

    layout: Layout
    ports: Ports
    directory: Path
    store: str
    log_level: str = "info"

    def status_url(self, member: Member) -> str:
        """The status interface of a member's service."""
        port = self.ports.reflector_http if member.role is Role.REFLECTOR else self.ports.agent_http
        return f"http://{self._http_address(member)}:{port}"

    def service(self, member: Member) -> list[str]:
        """Write a member's configuration; the argument list that starts its service."""
        verb, config = (
            ("reflector", self.reflector(member))
            if member.role is Role.REFLECTOR
            else ("agent", self.agent(member))
        )
        path = self.directory / f"{member.name}.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return [sys.executable, "-m", "ctl", verb, "--config", str(path)]

    def agent(self, member: Member) -> dict[str, object]:
        """The configuration of a node's agent."""
        return {
            "node": member.name,
            "datastore": self.store,
            "learnOnly": member.role is Role.ROUTER,
            "leaseTtl": LEASE,
            "syncWait": SYNC_WAIT,
            "kernel": {"dryRun": self.layout.mode is Mode.LOOPBACK},
            "exabgp": {
                "runDirectory": str(self.directory / member.name),
                "localAddress": str(member.address),
            },
            "http": {"address": self._http_address(member), "port": self.ports.agent_http},
            "logLevel": self.log_level,
        }

    def reflector(self, member: Member) -> dict[str, object]:
        """The configuration of a reflector."""
        return {
            "node": member.name,
            "datastore": self.store,
            "http": {"address": self._http_address(member), "port": self.ports.reflector_http},
            "runDirectory": str(self.directory / member.name),
            "logLevel": self.log_level,
        }

    def etcd(self, program: str, address: IPv4Address) -> list[str]:
        """The argument list that starts an etcd for the lab."""
        client = f"http://{address}:{self.ports.etcd}"
        peer = f"http://{address}:{self.ports.etcd_peer}"
        return [
            program,
            "--name=lab",
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=lab={peer}",
            "--unsafe-no-fsync",  # the data lives as long as the lab
            "--log-level=warn",
        ]

    def _http_address(self, member: Member) -> str:
        return str(member.address) if self.layout.mode is Mode.LOOPBACK else "127.0.0.1"
