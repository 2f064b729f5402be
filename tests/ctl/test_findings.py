"""What is wrong between resources: refused with place and remedy, and nothing is written."""

from pathlib import Path

import pytest

from tests.ctl.cairn import cairn
from tests.ctl.test_resource_commands import CLUSTER, PEER, write


@pytest.fixture
def store(tmp_path: Path) -> Path:
    place = tmp_path / "store"
    place.mkdir()
    return place


FILTERED = (PEER % 65001).replace("asNumber", "filters: [none], asNumber")


def test_a_change_that_refers_to_nothing_is_refused_and_not_written(store: Path, tmp_path: Path) -> None:
    cairn("apply", "-f", write(tmp_path / "c.yaml", CLUSTER), "--datastore", store)
    for verb in ("apply", "diff"):
        done = cairn(verb, "-f", "-", "--datastore", store, stdin=FILTERED)
        assert done.code == 4, done
        assert "there is no BGPFilter none" in done.err
        assert "BGPPeer tor: spec.filters[0]" in done.err
        assert "to do: create it first" in done.err
    assert cairn("get", "bgpp", "-o", "json", "--datastore", store).json["items"] == []


def test_a_filter_in_use_is_not_deleted(store: Path, tmp_path: Path) -> None:
    """The session would be without it: everything let out, everything taken."""
    none = "apiVersion: projectcalico.org/v3\nkind: BGPFilter\nmetadata: {name: none}\nspec: {}\n---\n"
    both = write(tmp_path / "both.yaml", none + FILTERED)
    assert cairn("apply", "-f", both, "--datastore", store).code == 0
    for dry in ([], ["--dry-run"]):
        done = cairn("delete", "bgpfilter", "none", *dry, "--datastore", store)
        assert done.code == 4, done
        assert "after that there is no BGPFilter none" in done.err
        assert "BGPPeer tor: spec.filters[0]" in done.err
    assert cairn("get", "bgpfilter", "none", "--datastore", store).code == 0
    assert cairn("delete", "-f", both, "--datastore", store).code == 0


def test_what_was_wrong_before_does_not_stop_a_change(store: Path, tmp_path: Path) -> None:
    (store / "peer.yaml").write_text(FILTERED)
    done = cairn("apply", "-f", write(tmp_path / "c.yaml", CLUSTER), "--datastore", store)
    assert done.code == 0, done.err


def test_warnings_are_told_and_stop_nothing(store: Path, tmp_path: Path) -> None:
    text = (PEER % 65001).replace("asNumber", "nodeSelector: has(rack), asNumber")
    done = cairn("apply", "-f", "-", "--datastore", store, stdin=text)
    assert done.code == 0, done.err
    assert "cairn: warning: BGPPeer tor: spec.nodeSelector: no Node fits 'has(rack)'" in done.err


def test_validate_looks_at_the_files_together(tmp_path: Path) -> None:
    overlapping = CLUSTER.replace("name: lab}", "name: inner}").replace("10.77.0.0/16", "10.77.4.0/22")
    pool = overlapping[overlapping.rindex("---") + 4 :]
    one, two = write(tmp_path / "1.yaml", CLUSTER), write(tmp_path / "2.yaml", pool)
    assert cairn("validate", "-f", one).code == 0
    done = cairn("validate", "-f", one, "-f", two)
    assert (done.code, "10.77.4.0/22 overlaps 10.77.0.0/16 of IPPool lab" in done.err) == (4, True)
    alone = cairn("validate", "-f", write(tmp_path / "3.yaml", FILTERED), "-o", "json")
    assert (alone.code, alone.json["warnings"]) == (0, [])


def test_no_escape_sequence_reaches_a_terminal(store: Path, tmp_path: Path) -> None:
    """Not by what is declared, by whoever declared it: \\e[31m would colour what comes after it."""
    head = "apiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\n"
    endpoint = head + 'metadata: {name: w}\nspec: {node: "n\\e[31m", ipNetworks: [10.0.0.1/32]}\n'
    done = cairn("apply", "-f", "-", "--datastore", store, stdin=endpoint)
    assert (done.code, "there is no Node n" in done.err) == (0, True)
    wrong = write(store / "wrong.yaml", 'apiVersion: projectcalico.org/v3\nkind: "N\\e[31mode"\n')
    refused = cairn("validate", "-f", wrong)
    ignored = cairn("get", "weps", "-o", "wide", "--datastore", store)
    assert refused.code == 4
    assert ignored.err.count("wrong.yaml") == 2  # the file and, in it, the line
    for each in (done, refused, ignored):
        assert "\x1b" not in each.out + each.err


def test_what_is_named_twice_is_deleted_once(store: Path) -> None:
    cairn("apply", "-f", "-", "--datastore", store, stdin=PEER % 65001)
    done = cairn("delete", "bgppeer", "tor", "tor", "--datastore", store)
    assert (done.code, "deleted: 1" in done.out) == (0, True), done
