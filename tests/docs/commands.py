"""The commands of the documentation, and which test runs each.

A test asks for its commands here (`commands`) and has to run them all. What no test runs is in the same list,
with the reason; `test_documents` parses it all the same where it is Cairn's own, and fails when a command has
no row, or a row no command.
"""

import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).resolve().parents[2]
PAGES = sorted({*(TOP / "docs").rglob("*.md"), TOP / "README.md", *(TOP / "configs").rglob("*.md")})
WRITTEN_BY_HAND = [page for page in PAGES if "reference" not in page.parts]
PROGRAMS = frozenset(
    {
        "./run", "cairn", "systemctl", "journalctl", "export", "mkdir", "apt", "ip", "curl", "kubectl",
        "docker", "install", "configs/systemd/install.sh", "etcdctl", "mosquitto_sub", "bgpctl", "install.sh",
    }
)  # fmt: skip
MENTION = re.compile(r"\S+( [a-z]+)?|cairn( [a-z]+)*")
"""What stands between backticks only to be named."""


class Row(NamedTuple):
    """Commands of pages, both as in a shell's `*`, and the test that runs them, or why none does."""

    pages: str
    command: str
    by: str


_BARE = "test_a_bare_machine_by_the_page"
_BIRD = "test_from_bird"
_BY_SYSTEMD = "test_services_are_looked_after_as_the_pages_say"
_DECLARED = "test_the_declared_state_works_as_the_pages_say"
_DEMO = "test_the_demo"
_ROUTER = "test_a_router_and_its_password"
_TWO_NODES = "test_two_nodes_by_the_page_alone"
_ZONES = "test_the_zones_of_a_large_cluster_are_joined_by_their_reflectors"
_INSTALL = "configs/systemd/install.sh"

ROWS = (
    Row("*", "export *", "the shell's own: the tests that run the next lines have it in their environment"),
    Row("*", "./run test*", "is what runs the tests"),
    Row("*", "./run bench *", "test_the_benchmarks"),
    Row("*", "./run setup", "is how ./run test begins"),
    Row("*", "./run compile", "is how ./run test begins"),
    Row("*", "./run demo*", _DEMO),
    Row("README.md", "cairn [!ars]*", _DECLARED),
    Row("README.md", "cairn apply *", _DECLARED),
    Row("README.md", "cairn *", _BY_SYSTEMD),
    Row("configs/README.md", "cairn *", _DECLARED),
    Row("configs/kubernetes/*", "kubectl *", "test_the_manifests_are_taken_and_become_pods"),
    Row("docs/quick-start.md", "*two-nodes.yaml*", _TWO_NODES),
    Row("docs/quick-start.md", "systemctl *", _BY_SYSTEMD),
    Row("docs/quick-start.md", "cairn doctor", _TWO_NODES),
    Row("docs/quick-start.md", "cairn [pr]??*s", _TWO_NODES),
    Row("docs/quick-start.md", "cairn status*", _TWO_NODES),
    Row("docs/quick-start.md", "ip *", _TWO_NODES),
    Row("docs/quick-start.md", "*", _DECLARED),
    Row("docs/concepts.md", "cairn *", _BY_SYSTEMD),
    Row("docs/decisions/*", "cairn *", _DECLARED),
    Row("docs/interop.md", "bgpctl *", "stands for what tests/scenario does to an OpenBGPD"),
    Row("docs/operations/install.md", "apt *", _BARE),
    Row("*", "install.sh --reflector *", _BARE),
    Row("docs/operations/install.md", f"{_INSTALL} --agent", _BARE),
    Row(
        "docs/operations/install.md",
        f"{_INSTALL} *",
        "tests/deployment/test_systemd.py, in a folder",
    ),
    Row("docs/operations/install.md", "docker *", "test_the_compose_files_cluster"),
    Row("docs/operations/install.md", "*", _BY_SYSTEMD),
    Row("docs/operations/surroundings.md", "cairn *", "test_a_backup_is_put_back"),
    Row("docs/operations/*", "*", _BY_SYSTEMD),
    Row("docs/tasks/drain.md", "*", _BY_SYSTEMD),
    Row("docs/tasks/grow.md", "cairn explain *", _BY_SYSTEMD),
    Row("docs/tasks/grow.md", "*", _ZONES),
    Row("docs/tasks/mesh-to-reflectors.md", "cairn delete *", _BY_SYSTEMD),
    Row("docs/tasks/mesh-to-reflectors.md", "*", _TWO_NODES),
    Row("docs/tasks/migrate-from-bird.md", "systemctl *", _BY_SYSTEMD),
    Row("docs/tasks/*", "cairn bird run*", "tests/ctl/test_bird_run.py, with BIRD's files elsewhere"),
    Row("docs/tasks/migrate-from-bird.md", "*", _BIRD),
    Row("docs/tasks/peer-with-a-router.md", "* --help", _DECLARED),
    Row("docs/tasks/peer-with-a-router.md", "*", _ROUTER),
    Row("docs/tasks/rotate-a-password.md", "*", _ROUTER),
    Row("docs/tasks/upgrade-a-reflector.md", "*", _BY_SYSTEMD),
    Row("docs/tasks/watch.md", "* --datastore *", _TWO_NODES),
    Row("docs/tasks/watch.md", "cairn *", _BY_SYSTEMD),
    Row("docs/tasks/watch.md", "mosquitto_sub *", _BY_SYSTEMD),
)
"""In the order in which they are tried."""


def spoken(page: Path) -> Iterator[str]:
    """A page's commands: its indented lines, and between backticks what begins with a program."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    prose: list[str] = []
    for line in text.splitlines():
        if line.startswith("    ") and (not prose or not prose[-1].strip()):
            yield shlex.join(shlex.split(line, comments=True))
        else:
            prose.append(line)
    for span in re.findall(r"`([^`]+)`", "\n".join(prose)):
        words = [word for word in span.split() if not re.match("[A-Z_]+=", word)]
        if words and words[0] in PROGRAMS and not MENTION.fullmatch(" ".join(words)):
            yield " ".join(words)


def row(page: str, command: str) -> Row | None:
    """The first row that has the command of a page."""
    return next(
        (row for row in ROWS if fnmatchcase(page, row.pages) and fnmatchcase(command, row.command)), None
    )


def commands(test: str, pages: str = "*") -> list[list[str]]:
    """The words of the commands that a test has to run, in the order of the pages, each once."""
    found: dict[str, None] = {}
    for page in WRITTEN_BY_HAND:
        name = str(page.relative_to(TOP))
        if fnmatchcase(name, pages):
            for command in spoken(page):
                if (has := row(name, command)) is not None and has.by == test:
                    found[command] = None
    return [shlex.split(command) for command in found]
