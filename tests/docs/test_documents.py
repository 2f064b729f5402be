"""The documentation against the program: links, command lines, examples, and the quick start for real."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import agent.config
import reflector.config
from bgpd.plan import plan_node
from bgpd.resources import ResourceSet, load_documents
from bgpd.wire.iana import notification_words
from ctl.main import application
from tests.docs.commands import PAGES, PROGRAMS, ROWS, TOP, WRITTEN_BY_HAND, commands, row, spoken


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def examples(page: Path) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def test_reasons_of_sessions_are_the_words_that_are_shown() -> None:
    page = (TOP / "docs/operations/troubleshooting.md").read_text()
    told = re.findall(r"^\| (\d)/(\d), \*(.+?)\*", page, re.MULTILINE)
    assert len(told) >= 5
    for code, subcode, words in told:
        assert words == notification_words(int(code), int(subcode))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_links_and_their_anchors_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def test_every_page_is_reached_from_the_index() -> None:
    seen: set[Path] = set()
    ahead = [TOP / "docs/README.md"]
    while ahead:
        page = ahead.pop()
        if page in seen:
            continue
        seen.add(page)
        targets = re.findall(r"\]\(([^)\s#:]+\.md)[^)]*\)", page.read_text())
        ahead += [(page.parent / target).resolve() for target in targets]
    assert set((TOP / "docs").rglob("*.md")) <= seen


@pytest.fixture(scope="module")
def command() -> Any:
    return typer.main.get_command(application(None))


@pytest.mark.parametrize("page", WRITTEN_BY_HAND, ids=lambda page: str(page.relative_to(TOP)))
def test_commands_are_understood(page: Path, command: Any) -> None:
    for words in map(shlex.split, spoken(page)):
        assert words[0] in PROGRAMS, words
        if words[0] != "cairn":
            continue
        if words[1].startswith("-"):
            assert words[1].lstrip("-") in ("help", "version", "install-completion"), words
            continue
        found, rest = command, words[1:]
        name = "cairn"
        while hasattr(found, "commands"):
            assert rest, words
            if found.invoke_without_command and rest[0].startswith("-"):
                break
            assert rest[0] in found.commands, words
            name, found, rest = rest[0], found.commands[rest[0]], rest[1:]
        cut = next((place for place, word in enumerate(rest) if word in (">", "|", "2>")), len(rest))
        if "--help" not in rest:
            found.make_context(name, rest[:cut]).close()  # raises at what is unknown, missing or wrong


def test_every_command_is_run_or_has_its_reason() -> None:
    tests = "".join(path.read_text() for path in (TOP / "tests").rglob("test_*.py"))
    used = set()
    for page in WRITTEN_BY_HAND:
        for said in spoken(page):
            name = str(page.relative_to(TOP))
            found = row(name, said)
            assert found is not None, (
                f"{name}: no test runs {said!r}; tests/docs/commands.py says which does, or why none"
            )
            used.add(found)
            if found.by.startswith("test_"):
                assert f"def {found.by}(" in tests, found
                assert f'commands("{found.by}"' in tests, f"{found.by} does not ask for its commands"
    assert set(ROWS) == used, "rows without a command"


@pytest.mark.parametrize("page", WRITTEN_BY_HAND, ids=lambda page: str(page.relative_to(TOP)))
def test_examples_load(page: Path, tmp_path: Path) -> None:
    for text in examples(page):
        path = tmp_path / "example.yaml"
        path.write_text(text)
        first = next(yaml.safe_load_all(text))
        if "kind" in first:
            assert load_documents(text, page.name)
        elif "routerId" in first:
            reflector.config.load(path)
        else:
            agent.config.load(path)


def run(arguments: list[str], folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ctl", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(TOP), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "page", ["README.md", "configs/README.md", "docs/quick-start.md", "docs/tasks/*", "docs/decisions/*"]
)
def test_the_declared_state_works_as_the_pages_say(page: str, tmp_path: Path) -> None:
    """Without a service; the datastore is a directory."""
    (tmp_path / "configs").symlink_to(TOP / "configs")
    (tmp_path / "peers.yaml").write_text((TOP / "configs/resources/bgppeer.yaml").read_text())
    for words in commands("test_the_declared_state_works_as_the_pages_say", page):
        if words[0] == "cairn":
            done = run(words[1:], tmp_path, CAIRN_DATASTORE=str(tmp_path / "state"))
            assert done.returncode == 0, (words, done.stdout, done.stderr)
            assert done.stdout.strip(), words
        else:
            subprocess.run(words, cwd=tmp_path, check=True)


@pytest.mark.skipif("CAIRN_ALL_CLUSTERS" not in os.environ, reason="CAIRN_ALL_CLUSTERS runs the demo")
@pytest.mark.timeout(600)
@pytest.mark.scenario
def test_the_demo() -> None:
    for words in commands("test_the_demo"):
        subprocess.run(words, cwd=TOP, check=True)


@pytest.mark.skipif("CAIRN_ALL_CLUSTERS" not in os.environ, reason="CAIRN_ALL_CLUSTERS runs the benchmarks")
@pytest.mark.timeout(1200)
@pytest.mark.scenario
def test_the_benchmarks() -> None:
    """With the small load, where there is a choice."""
    for words in commands("test_the_benchmarks"):
        quick = [] if words[-1] == "plan" else ["--quick"]
        subprocess.run([*words, *quick], cwd=TOP, check=True)


def test_a_backup_is_put_back(tmp_path: Path) -> None:
    """With all examples declared, into an empty store."""
    get, apply = commands("test_a_backup_is_put_back")
    assert get[-2:] == [">", "cluster.yaml"]
    for store, words in (
        ("old", ["apply", "-f", str(TOP / "configs/resources")]),
        ("old", get[1:-2]),
        ("new", apply[1:]),
    ):
        done = run(words, tmp_path, CAIRN_DATASTORE=str(tmp_path / store))
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        if words == get[1:-2]:
            (tmp_path / "cluster.yaml").write_text(done.stdout)
    listed = [
        run(get[1:-2], tmp_path, CAIRN_DATASTORE=str(tmp_path / store)).stdout for store in ("old", "new")
    ]
    assert listed[0] == listed[1]
    assert listed[0].count("kind:") > 10


def test_the_zones_of_a_large_cluster_are_joined_by_their_reflectors(tmp_path: Path) -> None:
    diff, apply, plan = commands("test_the_zones_of_a_large_cluster_are_joined_by_their_reflectors")
    [zones] = examples(TOP / "docs/tasks/grow.md")
    [mesh_off] = [text for text in examples(TOP / "docs/tasks/mesh-to-reflectors.md") if "no-mesh" in text]
    nodes = "".join(
        "---\napiVersion: projectcalico.org/v3\nkind: Node\n"
        f"metadata: {{name: node-{number}, labels: {{zone: {zone}}}}}\n"
        f"spec: {{bgp: {{ipv4Address: 10.0.0.{number}/24}}}}\n"
        for number, zone in ((1, "a"), (2, "a"), (3, "b"))
    )
    resources = ResourceSet.of(load_documents(f"{zones}---\n{mesh_off}{nodes}", "zones"))
    sessions = {
        name: {(peering.peer_node, peering.rr_client) for peering in plan_node(resources, name).peerings}
        for name in resources.nodes
    }
    assert sessions == {
        "rr-a1": {("node-1", True), ("node-2", True), ("rr-b1", True)},
        "rr-b1": {("node-3", True), ("rr-a1", True)},
        "node-1": {("rr-a1", False)},
        "node-2": {("rr-a1", False)},
        "node-3": {("rr-b1", False)},
    }
    store = tmp_path / "store"
    store.mkdir()
    (store / "cluster.yaml").write_text(mesh_off + nodes)
    (tmp_path / "zones.yaml").write_text(zones)
    for words, code in ((diff, 1), (apply, 0), (plan, 0)):
        done = run(words[1:], tmp_path, CAIRN_DATASTORE=str(store))
        assert done.returncode == code, (words, done.stdout, done.stderr)
    assert all(peer in done.stdout for peer in ("node-1", "node-2", "rr-b1"))


def test_the_two_nodes_of_the_quick_start_would_meet(tmp_path: Path) -> None:
    text = next(text for text in examples(TOP / "docs/quick-start.md") if "two-nodes.yaml" in text)
    nodes = "".join(
        "---\napiVersion: projectcalico.org/v3\nkind: Node\n"
        f"metadata: {{name: node-{name}}}\nspec: {{bgp: {{ipv4Address: 10.0.0.{number}/24}}}}\n"
        for number, name in enumerate("ab", 1)
    )
    (tmp_path / "two-nodes.yaml").write_text(text + nodes)
    (tmp_path / "state").mkdir()
    store = str(tmp_path / "state")
    assert run(["apply", "--yes", "-f", "two-nodes.yaml"], tmp_path, CAIRN_DATASTORE=store).returncode == 0
    planned = run(["plan", "node-a"], tmp_path, CAIRN_DATASTORE=store).stdout
    assert "10.0.0.2" in planned
    assert "10.77.1.0/26" in planned
