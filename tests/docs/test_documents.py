"""The documentation against the program: links, command lines, examples, and the quick start for real."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import agent.config
import reflector.config
from bgpd.plan import plan_node
from bgpd.resources import ResourceSet, load_documents
from ctl.main import application

TOP = Path(__file__).resolve().parents[2]
PAGES = sorted({*(TOP / "docs").rglob("*.md"), TOP / "README.md", *(TOP / "configs").rglob("*.md")})
WRITTEN_BY_HAND = [page for page in PAGES if "reference" not in page.parts]
NEEDS_SERVICES = {"agent", "reflector", "status", "peers", "routes", "lab", "doctor"}
NOT_OURS = {
    "./run", "systemctl", "export", "mkdir", "apt", "ip", "curl", "kubectl", "docker", "install",
    "configs/systemd/install.sh",
}  # fmt: skip


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def lines(page: Path) -> Iterator[list[str]]:
    """The words of every indented command line, fences aside."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    inside = False
    before = ""
    for line in text.splitlines():
        inside = line.startswith("    ") and (inside or not before.strip())
        before = line
        if inside:
            yield shlex.split(line, comments=True)


def examples(page: Path) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


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
    for words in lines(page):
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
        found.make_context(name, rest[:cut]).close()  # raises at an option that is unknown, missing or wrong


@pytest.mark.parametrize("page", WRITTEN_BY_HAND, ids=lambda page: str(page.relative_to(TOP)))
def test_other_programs_are_known_ones(page: Path) -> None:
    if page.parent.name == "decisions":
        return
    for words in lines(page):
        assert words[0] in {*NOT_OURS, "cairn"}, words


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


def test_the_quick_start_works_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(TOP / "configs")
    (tmp_path / "state").mkdir()
    ran = []
    for words in lines(TOP / "docs/quick-start.md"):
        if words[0] != "cairn" or words[1] in NEEDS_SERVICES:
            continue
        if "two-nodes.yaml" in words:
            break
        done = run(words[1:], tmp_path, CAIRN_DATASTORE=str(tmp_path / "state"))
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        assert done.stdout.strip(), words
        ran.append(words[1])
    assert {"validate", "apply", "get", "plan", "explain", "render", "diff", "delete"} <= set(ran)


def test_the_zones_of_a_large_cluster_are_joined_by_their_reflectors() -> None:
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
