"""What a running agent counts although it cannot be read is what the next one counts."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from bgpd.datastore import Change, Changes, Entry, Invalid, Snapshot
from bgpd.datastore.last_good import NAME, LastGood
from bgpd.resources import Key, Resource, ResourceSet, load_documents

POOL, PEER = Key("IPPool", "p"), Key("BGPPeer", "t")
DECLARED = """\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: p}
spec: {cidr: 10.77.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: t}
spec: {peerIP: 10.0.0.9, asNumber: 65100}
"""


def declared() -> dict[Key, Resource]:
    return {resource.key: resource for resource in load_documents(DECLARED, "f")}


def unreadable(*keys: Key) -> tuple[Invalid, ...]:
    return tuple(Invalid(f"/{key.name}", key, "no value of that kind") for key in keys)


def test_it_is_kept_while_it_cannot_be_read_and_no_longer(tmp_path: Path) -> None:
    path, resources = tmp_path / NAME, declared()
    agent = LastGood(tmp_path)
    assert list(agent.recall(Snapshot((), 1))) == []
    agent.heard(
        Changes((), 2, unreadable(POOL, PEER, Key("IPPool", "never read"))),
        ResourceSet.of(resources.values()),
    )
    again = Snapshot((), 3, unreadable(POOL, PEER))
    assert {resource.key: resource for resource in LastGood(tmp_path).recall(again)} == resources
    successor = LastGood(tmp_path)
    assert [each.key for each in successor.recall(Snapshot((), 3, unreadable(PEER)))] == [PEER]
    repaired = Changes((Change(PEER, Entry(PEER, resources[PEER], 4)),), 4, (Invalid("/t", PEER, None),))
    successor.heard(repaired, ResourceSet.of(resources.values()))
    assert not path.exists()


def test_what_was_written_anew_since_is_not_remembered(tmp_path: Path) -> None:
    """It can be read again and nobody had to say so, in a file of several that was put right as it was."""
    path, resources = tmp_path / NAME, declared()
    agent = LastGood(tmp_path)
    agent.heard(Changes((), 2, unreadable(POOL)), ResourceSet.of(resources.values()))
    agent.heard(Changes((Change(POOL, Entry(POOL, resources[POOL], 3)),), 3, ()), ResourceSet.of())
    assert not path.exists()


def test_what_was_written_anew_before_a_start_is_not_remembered_by_the_next(tmp_path: Path) -> None:
    """Else what is two versions old would count, and for the last good one."""
    LastGood(tmp_path).heard(Changes((), 2, unreadable(POOL)), ResourceSet.of(declared().values()))
    assert list(LastGood(tmp_path).recall(Snapshot((), 3))) == []
    assert list(LastGood(tmp_path).recall(Snapshot((), 4, unreadable(POOL)))) == []


def test_what_counted_before_the_start_ends_when_it_is_removed(tmp_path: Path) -> None:
    """The store had never read it, and so tells of no resource that is gone."""
    resources = declared()
    LastGood(tmp_path).heard(Changes((), 2, unreadable(POOL, PEER)), ResourceSet.of(resources.values()))
    agent = LastGood(tmp_path)
    counted = agent.counted(Snapshot((), 3, unreadable(POOL, PEER)), ResourceSet.of())
    news = Changes((), 4, (Invalid("/p", POOL, None), Invalid("/t", PEER, "worse")))
    counted = agent.counted(news, counted)
    assert list(counted) == [resources[PEER]]
    again = LastGood(tmp_path).counted(Snapshot((), 5, unreadable(POOL, PEER)), ResourceSet.of())
    assert list(again) == [resources[PEER]]


def test_a_file_that_is_none_is_no_hindrance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / NAME
    entries = ('["IPPool", "", "p", "{}"]', '["IPPool", "", "p", {}]', '["Nothing", "", "p", "{}"]')
    for text in ("", "{", "[1]", *(f"[{entry}]" for entry in entries)):
        path.write_text(text)
        assert list(LastGood(tmp_path).recall(Snapshot((), 1, unreadable(POOL)))) == []
        assert "what was noted before cannot be used" in capsys.readouterr().out
    nowhere = LastGood(tmp_path / "no" / "folder")
    nowhere.heard(Changes((), 2, unreadable(POOL)), ResourceSet.of(declared().values()))
    assert "what counts would not be known after a restart" in capsys.readouterr().out


def test_what_another_version_noted_costs_nothing_that_this_one_knows(tmp_path: Path) -> None:
    path, resources = tmp_path / NAME, declared()
    LastGood(tmp_path).heard(Changes((), 2, unreadable(POOL, PEER)), ResourceSet.of(resources.values()))
    [peer, pool] = json.loads(path.read_text())
    later = [["Nothing", "", "p", "{}"], [*peer[:3], peer[3].replace("65100", '"all"')], [*pool, 2027]]
    path.write_text(json.dumps([*later, pool]))
    assert [each.key for each in LastGood(tmp_path).recall(Snapshot((), 3, unreadable(POOL, PEER)))] == [POOL]


def test_what_the_disk_had_no_room_for_is_written_when_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    resources = ResourceSet.of(declared().values())
    agent = LastGood(tmp_path)
    agent.recall(Snapshot((), 1))
    for revision, key in ((2, PEER), (4, POOL)):
        assert capsys.readouterr().out == ""
        with monkeypatch.context() as patched:
            patched.setattr("bgpd.datastore.last_good.write_whole", full)
            agent.heard(Changes((), revision, unreadable(key)), resources)
        assert capsys.readouterr().out.count("what counts would not be known after a restart") == 1
        agent.heard(Changes((), revision + 1, ()), resources)
    assert len(list(LastGood(tmp_path).recall(Snapshot((), 6, unreadable(PEER, POOL))))) == 2
