"""The rules by promtool; a real Prometheus that scrapes, evaluates and answers the dashboard's queries."""

import asyncio
import json
import re
import subprocess
import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from bgpd.telemetry.distribution import Distribution
from bgpd.telemetry.http import HttpOptions, StatusServer
from bgpd.telemetry.status import Sample, SampleKind
from tests.ports import free_port
from tests.telemetry.big import Big
from tests.telemetry.source import Source, peer

TOP = Path(__file__).resolve().parents[2]
CONFIGS = TOP / "configs" / "prometheus"
RULES = CONFIGS / "cairn.rules.yml"
DASHBOARD = TOP / "configs" / "grafana" / "cairn.json"
SCRAPED = "count_over_time(cairn_service_healthy[1m]) >= 3"
needs_promtool = needs_prometheus = pytest.mark.peer("prometheus")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def dashboard_expressions() -> list[str]:
    board = json.loads(DASHBOARD.read_text())
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]


def names_in(expression: str) -> set[str]:
    found = set(re.findall(r"\b(?:cairn|process)_\w+", re.sub(r'"[^"]*"', '""', expression)))
    return {re.sub(r"_(?:bucket|count|sum)$", "", name) if "_seconds_" in name else name for name in found}


def documented() -> set[str]:
    return set(re.findall(r"`(cairn_\w+)`", (TOP / "docs/reference/metrics.md").read_text())) | {
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
    }


@needs_promtool
def test_promtool_has_nothing_to_say_and_the_alerts_fire_when_they_should() -> None:
    for command in (
        ("check", "rules", "cairn.rules.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "cairn.rules.test.yml"),
    ):
        done = subprocess.run(
            ["promtool", *command], cwd=CONFIGS, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_rules_and_dashboard_use_metrics_that_exist() -> None:
    for expression in [*(rule["expr"] for rule in rules()), *dashboard_expressions()]:
        unknown = names_in(expression) - documented()
        assert not unknown, expression


def test_every_alert_has_a_page_in_the_runbook() -> None:
    for rule in rules():
        if "alert" not in rule:
            continue
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        headings = re.findall(r"^## (\w+)$", (TOP / page).read_text(), re.MULTILINE)
        assert anchor == rule["alert"].lower()
        assert rule["alert"] in headings
        assert rule["labels"]["severity"] in ("page", "ticket", "info")


class Agent(Source):
    """An agent in trouble, with every metric of an agent that the rules speak of."""

    def samples(self) -> list[Sample | Distribution]:  # type: ignore[override]  # a wider list, only read
        gauge, family = SampleKind.GAUGE, (("family", "ipv4-unicast"),)
        return [
            Sample("kernel_refused", "x", 2, gauge),
            Sample("kernel_blocked", "x", 1, gauge, family),
            Sample("kernel_pending", "x", 0, gauge, family),
            Sample("kernel_routes", "x", 9, gauge, family),
            Sample("kernel_drift", "x", 3),
            Sample("kernel_writes", "x", 30),
            Sample("exabgp_restarts", "x", 1),
            Sample("rejected_routes", "x", 4, gauge, (("reason", 'a "loop" {1}\\'),)),
            Distribution("datastore_to_wire_seconds", "x"),
            Distribution("received_to_kernel_seconds", "x"),
        ]


@pytest.fixture
async def prometheus(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    agent, reflector = Agent(), Big(40, 500, time.time())
    agent.peer_list = [peer("rr1"), peer("tor", "ACTIVE")]
    servers = [StatusServer(agent, HttpOptions()), StatusServer(reflector, HttpOptions())]
    for server in servers:
        await server.start()
    config = yaml.safe_load((CONFIGS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES)]
    for job, server in zip(config["scrape_configs"], servers, strict=True):
        job["static_configs"] = [{"targets": [server.url.removeprefix("http://")]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - waited for in a thread
            [
                *("prometheus", f"--config.file={tmp_path / 'prometheus.yml'}"),
                *(f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{port}"),
            ],
            stdout=log,
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)
        for server in servers:
            await server.stop()


async def ask(client: aiohttp.ClientSession, path: str, **query: str) -> Any:
    try:
        async with client.get(f"/api/v1/{path}", params=query) as answer:
            if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
                return []  # it listens, and is still starting
            document = await answer.json()
    except aiohttp.ClientConnectionError:
        return []  # it is starting
    assert document["status"] == "success", document
    return document["data"].get("result", document["data"])


@needs_prometheus
async def test_a_real_prometheus_scrapes_us_and_the_dashboard_has_answers(
    prometheus: aiohttp.ClientSession,
) -> None:
    async with asyncio.timeout(60):
        while len(await ask(prometheus, "query", query=SCRAPED)) < 2:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.2)
    [down] = await ask(
        prometheus, "query", query='cairn_bgp_peer_up == 0 and on (peer) cairn_bgp_peer_up{peer="tor"}'
    )
    assert down["metric"]["job"] == "cairn-agent"
    [rejected] = await ask(prometheus, "query", query="cairn_rejected_routes")
    assert rejected["metric"]["reason"] == 'a "loop" {1}\\'
    for expression in dashboard_expressions():
        wanted = expression.replace("$job", ".*").replace("$instance", ".*")
        assert isinstance(await ask(prometheus, "query", query=wanted), list)
        whole = re.sub(r"\[\w+\]", "[1m]", wanted)
        if "histogram_quantile" not in whole:  # the agent's have observed nothing here
            assert await ask(prometheus, "query", query=whole), f"no answer to {whole}"
    async with asyncio.timeout(60):
        while True:
            alerts = (await ask(prometheus, "alerts"))["alerts"]
            names = {alert["labels"]["alertname"] for alert in alerts}
            if {"CairnKernelRefusesRoutes", "CairnDatastoreStale", "CairnSessionDown"} <= names:
                break
            await asyncio.sleep(0.2)
    found = (await ask(prometheus, "rules"))["groups"]
    unwell = [rule for group in found for rule in group["rules"] if rule["health"] == "err"]
    assert not unwell
