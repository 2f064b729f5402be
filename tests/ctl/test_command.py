"""The command itself: what it lists, what it loads, how it fails."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from ctl.commands import bench
from ctl.exits import Failure
from ctl.main import COMMANDS, wanted_command
from tests.ctl.cairn import ROOT, cairn, clean_environment


def test_help_lists_every_command_and_loads_no_heavy_room() -> None:
    code = (
        "import sys\nfrom ctl.main import main\nsys.argv = ['cairn', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'grpc', 'etcd3', 'aiohttp', 'pyroute2', 'exabgp', 'bgpd', 'agent', 'reflector'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    for row in COMMANDS:
        assert re.search(rf"\b{row.name}\b", done.stdout)


def test_a_command_that_reads_much_does_not_search_all_of_it_for_garbage(tmp_path: Path) -> None:
    """Python would do so each time there is a quarter more, for two thirds of a large cluster's plan."""
    node = "{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: n%d}}"
    (tmp_path / "nodes.yaml").write_text("\n---\n".join(node % number for number in range(1500)))
    code = (
        "import gc, sys\nfrom ctl.main import main\nbefore = gc.get_stats()[2]['collections']\n"
        f"sys.argv = ['cairn', 'validate', '-f', {str(tmp_path)!r}]\n"
        "try:\n    main()\nfinally:\n    assert gc.get_stats()[2]['collections'] == before\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(),
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert "1500" in done.stdout


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row.name)
def test_every_command_has_help_with_an_example(row: object) -> None:
    assert hasattr(row, "name")
    done = cairn(row.name, "--help")
    assert done.code == 0, done.err
    assert f"Example: cairn {row.name}" in " ".join(done.out.split())


@pytest.mark.parametrize(
    ("service", "signals"), [("agent", "SIGUSR2 SIGHUP"), ("reflector", "SIGQUIT SIGHUP")]
)
def test_help_tells_what_a_service_does_at_a_signal(service: str, signals: str) -> None:
    told = cairn(service, "--help").out
    assert [signal for signal in signals.split() if signal not in told] == []


def test_the_word_that_names_the_command_is_found() -> None:
    assert wanted_command(["get", "nodes"], {}) == "get"
    assert wanted_command(["--version"], {}) == ""
    assert wanted_command(["-h", "lab"], {}) == "lab"
    asked = {"_CAIRN_COMPLETE": "complete_bash", "COMP_WORDS": "cairn --help get n"}
    assert wanted_command([], asked) == "get"
    assert wanted_command([], {"_CAIRN_COMPLETE": "source_bash"}) == ""


def test_wrong_usage_is_exit_2() -> None:
    assert cairn("no-such-command").code == 2
    calicoctls = cairn("replace", "-f", "peers.yaml")
    assert (calicoctls.code, "`cairn apply` replaces" in calicoctls.err) == (2, True)
    assert cairn("get").code == 2
    assert cairn("get", "nodes").code == 2  # no datastore is named
    unknown = cairn("get", "bgpper", "--datastore", "/tmp")
    assert unknown.code == 2
    assert "did you mean BGPPeer?" in unknown.err
    for name in ("networkpolicies", "policy", "gnp", "felixconfig", "hep"):
        elsewhere = cairn("get", name, "--datastore", "/tmp")
        assert (elsewhere.code, "leaves to Felix" in elsewhere.err) == (2, True)


def test_version() -> None:
    done = cairn("--version")
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r"cairn \d+\.\d+\.\d+( \(compiled\))?\n", done.out)


def test_shell_completion_knows_every_command() -> None:
    done = cairn(
        environment={"_CAIRN_COMPLETE": "complete_bash", "COMP_WORDS": "cairn re", "COMP_CWORD": "1"}
    )
    assert set(done.out.split()) >= {"render", "reflector"}


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = clean_environment({"CAIRN": f"{sys.executable} -m ctl", "CAIRN_DATASTORE": str(folder)})
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True, text=True, check=False, env=environment, cwd=ROOT,
    )  # fmt: skip


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize(
    "line",
    [
        "$CAIRN plan node-1 | true",
        "$CAIRN get all -o json | head -1",
        "$CAIRN get nodes | grep -q NAME",
        "$CAIRN --help | true",
        "$CAIRN apply --help | head -1",
    ],
)
def test_a_reader_that_goes_away_is_no_error(line: str, buffered: str, tmp_path: Path) -> None:
    line = f"export PYTHONUNBUFFERED={buffered}; {line}"
    done = shell(f"$CAIRN apply -f configs/resources >/dev/null && {line}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("what", ["get nodes", "get all -o yaml", "validate -f configs/resources"])
def test_what_cannot_be_written_is_told(what: str, tmp_path: Path) -> None:
    assert shell("$CAIRN apply -f configs/resources", tmp_path).returncode == 0
    done = shell(f"$CAIRN {what} >/dev/full", tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("what", ["diff -f -", "apply --dry-run -f -", "apply --help"])
def test_a_terminal_without_unicode_is_written_to(what: str, tmp_path: Path) -> None:
    node = "{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: x}, spec: {bgp: {asNumber: %d}}}"
    line = f"export PYTHONIOENCODING=latin-1; echo '{node}' | $CAIRN"
    assert shell(f"{line % 1} apply -f -", tmp_path).returncode == 0
    done = shell(f"{line % 2} {what}", tmp_path)
    assert ("Traceback" in done.stderr, r"1 \u2192 2" in done.stdout or "Usage" in done.stdout) == (
        False,
        True,
    )


def test_closed_streams_are_empty_ones(tmp_path: Path) -> None:
    done = shell("$CAIRN apply -f configs/resources <&- >&- && $CAIRN get nodes 2>&- | cat", tmp_path)
    assert (done.returncode, done.stderr, "node-1" in done.stdout) == (0, "", True)
    done = shell("$CAIRN validate -f - <&-", tmp_path)
    assert (done.returncode, done.stderr) == (0, "the files hold no resource\n")


def test_what_is_no_text_is_invalid_also_on_standard_input(tmp_path: Path) -> None:
    done = shell("printf 'a: \\377' | PYTHONIOENCODING=utf-8:strict $CAIRN validate -f -", tmp_path)
    assert (done.returncode, "standard input: octet 3" in done.stderr) == (4, True), done


def test_nothing_that_is_declared_reaches_into_the_terminal(tmp_path: Path) -> None:
    node = 'apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: x, labels: {a: "%s"}}, spec: {}'
    for value in ("old", "\\e[31mnew"):
        line = f"echo '{{{node % value}}}' | $CAIRN apply -f - && $CAIRN get nodes -o wide"
        done = shell(line.replace("%", "%%"), tmp_path)
        assert (done.returncode, "\x1b" in done.stdout + done.stderr) == (0, False), done
    assert done.stdout.count("[31mnew") == 2, "in what changes, and among the labels"


def test_bench_is_the_checkouts_and_says_so_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = cairn("bench", "--", "--help")
    assert (done.code, "--rivals" in done.out) == (0, True), done.err
    assert cairn("bench", "--no-such-option").code == 2
    monkeypatch.setattr(bench, "CHECKOUT", tmp_path)
    with pytest.raises(Failure, match="not part of an installation") as failure:
        bench.command(typer.Context(typer.main.get_command(typer.Typer(callback=lambda: None))))
    assert failure.value.code == 2


def test_a_port_that_is_taken_is_told_with_its_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        listen = f"{{address: 127.0.0.1, port: {holder.getsockname()[1]}}}"
        path = tmp_path / "reflector.yaml"
        path.write_text(f"asn: 1\nrouterId: 10.0.0.1\nclients: [{{prefix: 127.0.0.0/8}}]\nlisten: {listen}\n")
        done = cairn("reflector", "--config", path)
    assert done.code == 3
    assert done.err.startswith("cairn: cannot listen on 127.0.0.1 port ")
    assert "Address already in use\n  to do: stop the program that has it (`cairn doctor`" in done.err
