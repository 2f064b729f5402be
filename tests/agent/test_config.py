"""The agent's configuration file: small, strict, and its errors name place and remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agent.config import AgentConfig, load
from bgpd.telemetry.config import ConfigError


def written(directory: Path, text: str) -> Path:
    path = directory / "agent.yaml"
    path.write_text(text)
    return path


def test_an_empty_file_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODENAME", "n1")
    config = load(written(tmp_path, ""))
    assert config == AgentConfig(node="n1")
    assert (config.kernel.table, config.kernel.metric, config.kernel.protocol) == (254, 1024, 179)


def test_names_are_camel_case(tmp_path: Path) -> None:
    text = """
node: n1
datastore: etcd://127.0.0.1:2379
ipv4: 10.0.0.1/24
learnOnly: true
staticRoutes: [198.51.100.0/24, "2001:db8::/48"]
maxRoutes: 5000
kernel: {table: 100, metric: 50, protocol: 90, dryRun: true}
exabgp: {runDirectory: /run/x}
"""
    config = load(written(tmp_path, text))
    assert config.learn_only
    assert config.kernel.dry_run
    assert config.exabgp.run_directory == Path("/run/x")
    assert [str(route) for route in config.static_routes] == ["198.51.100.0/24", "2001:db8::/48"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nodee: n1", "nodee: unknown word; did you mean node?"),
        ("static_routes: [10.0.0.0/8]", "static_routes: unknown word; did you mean staticRoutes?"),
        ("kernel: {tabel: 5}", "kernel.tabel: unknown word; did you mean table?"),
        ("zebra: 5", "zebra: unknown word"),
        ("kernel: {ipv4: 5}", "kernel.ipv4: unknown word here; it belongs to another part of the file"),
        ("staticRoutes: 192.0.2.0/24", "staticRoutes: a list is expected here"),
        ("exabgp:", "exabgp: fields are expected here, each a name and a value"),
        ("kernel: {protocol: 12}", "kernel: protocol 12 belongs to bird; choose a free number"),
        ("kernel: {metric: 0}", "kernel.metric:"),
        ("staticRoutes: [10.0.0.0/33]", "staticRoutes[0]"),
        ("- a list", "expected a mapping"),
        ("a: [", "not YAML"),
        ("a: 2026-13-45", "not YAML"),
        ("node: n1\nlearnOnly: true\nnode: n2\n", ":3: node is given twice; keep one"),
        ("kernel: {metric: 5, metric: 6}", ":1: metric is given twice"),
        ("a: " + 2000 * "[", "nested too deeply"),
        ("mqtt: {host: broker..example}", "mqtt.host: 'broker..example' is no host name"),
        ("mqtt: {host: 'mqtt://b'}", "without mqtt:// and port"),
        ("mqtt: {host: b, prefix: 'a/#'}", "mqtt.prefix: 'a/#' is no topic"),
    ],
)
def test_errors_name_file_place_and_reason(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert str(path) in str(raised.value)
    assert words in str(raised.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give the path of a readable file"):
        load(tmp_path / "none.yaml")


@pytest.mark.parametrize("host", ["broker", "broker.example.", "bücher.example", "127.0.0.1", "::1", "a_b"])
def test_brokers_are_hosts_or_addresses(tmp_path: Path, host: str) -> None:
    mqtt = load(written(tmp_path, f"node: n1\nmqtt: {{host: '{host}'}}")).mqtt
    assert mqtt is not None
    assert mqtt.host == host


@pytest.mark.parametrize(
    ("http", "words"),
    [
        ("{port: 9178, token: /nowhere/token}", "http.token: file /nowhere/token: No such file or directory"),
        ("{port: 9178, address: 0.0.0.0}", "http.address: the status server may listen on 0.0.0.0 only with"),
    ],
)
def test_what_turns_out_unusable_only_at_the_start_names_the_file_too(
    tmp_path: Path, http: str, words: str
) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(
        f"node: a\ndatastore: {tmp_path}\nexabgp: {{runDirectory: {tmp_path}/run}}\nhttp: {http}\n"
    )
    command = [sys.executable, "-m", "agent", "--config", str(path)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 4
    assert ended.stderr.splitlines()[-1].startswith(f"agent: {path}: {words}")
