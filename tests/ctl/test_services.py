"""agent, reflector and doctor: what they say when something is wrong, and a reflector from a small file."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.ctl.cairn import cairn, clean_environment
from tests.ports import free_port

SMALL = """\
asn: 65000
routerId: 10.255.255.254
clusterId: 10.255.255.254
listen: {{address: 127.0.0.1, port: {port}}}
clients: [{{prefix: 127.0.0.0/8}}]
http: {{port: {http}}}
"""


@pytest.mark.parametrize("verb", ["agent", "reflector"])
def test_a_configuration_that_cannot_be_used_is_exit_4(verb: str, tmp_path: Path) -> None:
    missing = cairn(verb, "--config", tmp_path / "none.yaml")
    assert (missing.code, "none.yaml" in missing.err) == (4, True)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("nodee: x\n")
    refused = cairn(verb, "--config", wrong)
    assert (refused.code, "nodee" in refused.err) == (4, True)
    assert "Traceback" not in refused.err
    assert cairn(verb).code == 2


def test_a_reflector_runs_from_a_small_file_and_ends_on_sigterm(tmp_path: Path) -> None:
    http = free_port()
    config = tmp_path / "reflector.yaml"
    config.write_text(SMALL.format(port=free_port(), http=http))
    process = subprocess.Popen(
        [sys.executable, "-m", "ctl", "reflector", "--config", str(config)], env=clean_environment()
    )
    try:
        deadline = time.monotonic() + 60
        while (status := cairn("status", "--api", f"http://127.0.0.1:{http}", "-o", "json")).code == 3:
            assert process.poll() is None
            assert time.monotonic() < deadline, status.err
        assert status.code == 0, status.err
        assert [service["service"] for service in status.json["services"]] == ["reflector"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_nobody_to_ask_is_exit_3() -> None:
    for words in (("status",), ("peers",), ("routes",)):
        done = cairn(*words, "--api", "http://127.0.0.1:1")
        assert done.code == 3, done
        assert "http://127.0.0.1:1" in done.out + done.err
    assert cairn("peers", "--api", "ftp://127.0.0.1").code == 2


def test_a_cluster_in_which_nobody_lives_is_not_well(tmp_path: Path) -> None:
    node = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: n1}\nspec: {}\n"
    assert cairn("apply", "-f", "-", "--datastore", tmp_path, stdin=node).code == 0
    done = cairn("status", "--datastore", tmp_path)
    first, finding = done.out.splitlines()
    assert (done.code, first) == (1, "DEGRADED (1): 0 of 1 nodes alive"), done
    assert "none of 1 declared nodes is alive" in finding


def test_doctor_gives_a_remedy_with_every_problem() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        done = cairn(
            "doctor", "-o", "json", "--port", str(taken.getsockname()[1]), "--datastore", "/no/such/place"
        )
    assert done.code == 1, done.err
    findings = {finding["check"]: finding for finding in done.json["findings"]}
    assert findings["python"]["verdict"] == "ok"
    assert findings["exabgp"]["verdict"] == "ok"
    assert findings["datastore"]["verdict"] == "problem"
    taken_port = next(finding for check, finding in findings.items() if check.startswith("port "))
    assert taken_port["verdict"] == "problem"
    assert all(
        finding["remedy"]
        for finding in findings.values()
        if finding["verdict"] == "problem" and finding["check"] != "datastore"
    )
