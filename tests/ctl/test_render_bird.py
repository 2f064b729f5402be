"""`cairn render bird` and `cairn render exabgp`: complete on standard output, or one clear error."""

import re
from pathlib import Path

import pytest

from tests.ctl.cairn import cairn
from tests.ctl.test_resource_commands import CLUSTER, PEER
from tests.render.parsers import check_bird, check_exabgp

SECRET = PEER.replace("asNumber: %d", "asNumber: 65001, password: {secretKeyRef: {name: tor, key: word}}")
HOMELESS = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: node-3}\nspec: {}\n"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    place = tmp_path / "store"
    place.mkdir()
    (place / "cluster.yaml").write_text("---\n".join([CLUSTER, PEER % 65001, HOMELESS]))
    return place


@pytest.mark.parametrize(
    ("words", "version", "family", "named"),
    [
        (("--transit", "--accept-default"), 2, 4, "Global_10_0_0_254"),
        (("--version", "1", "--role", "reflector"), 1, 4, "this machine only reflects"),
        (("--version", "1", "--family", "6"), 1, 6, "BIRD 1.6, IPv6"),
    ],
)
def test_one_complete_file_on_standard_output(
    store: Path, words: tuple[str, ...], version: int, family: int, named: str
) -> None:
    done = cairn("render", "bird", "--node", "node-1", "--datastore", store, *words)
    assert (done.code, done.err) == (0, "")
    assert named in done.out
    verdict = check_bird(done.out, version, family)
    assert verdict.accepted, verdict.message


def test_what_cannot_be_rendered_is_one_error(store: Path) -> None:
    unknown = cairn("render", "bird", "--node", "node-9", "--datastore", store)
    assert (unknown.code, unknown.out) == (4, "")
    assert unknown.err.startswith("cairn: no Node is called node-9\n")
    homeless = cairn("render", "exabgp", "--node", "node-3", "--datastore", store)
    assert (homeless.code, homeless.out) == (4, "")
    assert "node-3 cannot be planned: has neither spec.bgp.ipv4Address nor ipv6Address" in homeless.err


@pytest.mark.parametrize(("settings", "tells"), [("default", True), ("node.node-1", True), ("node.x", False)])
def test_settings_that_cannot_be_read_make_no_configuration(store: Path, settings: str, tells: bool) -> None:
    """Without them it would be one of another AS, with a full mesh."""
    (store / "settings.yaml").write_text(
        "apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\n"
        f"metadata: {{name: {settings}}}\nspec: {{asNumber: none}}\n"
    )
    for words in (("render", "bird", "--node", "node-1"), ("plan", "node-1")):
        done = cairn(*words, "--datastore", store)
        assert "settings.yaml" in done.err
        assert (done.code, done.out != "") == ((4, False) if tells else (0, True))


def test_a_password_that_bird_cannot_say_is_refused_and_one_that_is_missing_told(
    store: Path, tmp_path: Path
) -> None:
    (store / "cluster.yaml").write_text(f"{CLUSTER}---\n{SECRET}")
    (tmp_path / "secrets" / "tor").mkdir(parents=True)
    words = ("render", "bird", "--node", "node-1", "--datastore", store, "--secrets", tmp_path / "secrets")
    missing = cairn(*words)
    assert (missing.code, missing.err.count("\n")) == (0, 1)
    assert "the session with 10.0.0.254 stays down: secret tor/word" in missing.err
    assert "disabled on;" in missing.out
    (tmp_path / "secrets" / "tor" / "word").write_text('half"; }\n')
    refused = cairn(*words)
    assert (refused.code, refused.out, refused.err.count("\n")) == (4, "", 1)
    assert "(secret tor/word): contains a quote" in refused.err
    assert "half" not in refused.err


def test_exabgp_is_shown_process_by_process(store: Path) -> None:
    words = ("render", "exabgp", "--node", "node-1", "--datastore", store, "--run-directory", "/run/x")
    shown = cairn(*words).out
    parts = re.split(r"^# ---- /run/x/(\S+)/exabgp.conf\n", shown, flags=re.MULTILINE)
    assert parts[1::2] == ["mesh", "peer-10.0.0.254"]
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        assert f"/run/x/{name}/socket" in text
        verdict = check_exabgp(text)
        assert verdict.accepted, verdict.message
    assert cairn(*words, "--process", "mesh").out == parts[2]
    wrong = cairn(*words, "--process", "nothing")
    assert (wrong.code, "it has: mesh, peer-10.0.0.254" in wrong.err) == (2, True)
