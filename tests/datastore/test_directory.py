"""What people and processes do to a directory of files."""

import asyncio
import errno
import fcntl
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from unittest.mock import Mock

import pytest

from bgpd.datastore import Conflict, DatastoreError, Unavailable, directory_tree
from bgpd.datastore.directory import DirectoryStore
from bgpd.datastore.directory_tree import DirectoryTree
from bgpd.datastore.files import path_for
from bgpd.datastore.store import Create, Delete, Update, Write
from bgpd.resources import Key, ResourceError, decode
from tests.datastore.follower import following, node, text, until


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DirectoryStore]:
    store = DirectoryStore(tmp_path, poll=0.02)
    yield store
    await store.close()


async def test_files_of_all_shapes_in_order(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "z.yml").write_text(text("z"))
    (tmp_path / "many.yaml").write_text(f"# two\n{text('c')}---\n{text('b')}")
    document = {"apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": {"name": "a"}}
    (tmp_path / "one.json").write_text(json.dumps(document))
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.yaml").write_text("{")
    (tmp_path / ".many.yaml.swp").write_text("{")
    (tmp_path / "notes.txt").write_text("{")
    snapshot = await store.list()
    assert [entry.key.name for entry in snapshot.entries] == ["a", "b", "c", "z"]
    assert snapshot.invalid == ()


async def test_broken_file_keeps_the_last_good_content(store: DirectoryStore, tmp_path: Path) -> None:
    path = tmp_path / "nodes.yaml"
    path.write_text(text("a") + "---\n" + text("b"))
    async with following(store) as follower:
        path.write_text(text("a", "10.0.0.7/24") + "---\n" + text("b") + "  bgp: }\n")
        await until(lambda: follower.invalid)
        assert follower.invalid[0].place == "nodes.yaml"
        assert "nodes.yaml:" in (follower.invalid[0].reason or "")
        assert sorted(key.name for key in follower.view) == ["a", "b"]
        assert follower.updates[0].changes == ()
        with pytest.raises(DatastoreError, match="has to be repaired first"):
            await store.delete(Key("Node", "a"))
        path.write_text(text("a", "10.0.0.7/24"))
        await follower.until("a")
        assert follower.invalid[-1].reason is None
    broken_at_first = DirectoryStore(tmp_path)
    path.write_text("kind: Nod\n")
    snapshot = await broken_at_first.list()
    assert snapshot.entries == ()
    assert "Nod" in (snapshot.invalid[0].reason or "")


async def test_what_is_no_file_to_be_read_is_reported_and_holds_nothing_up(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "linked").write_text(text("linked"))
    (tmp_path / "linked.yaml").symlink_to("linked")
    async with following(store) as follower:
        os.mkfifo(tmp_path / "pipe.yaml")
        (tmp_path / "loop.yaml").symlink_to("loop.yaml")
        (tmp_path / "through.yaml").symlink_to("linked/x")
        (tmp_path / "text.yaml").write_text(text("text"), encoding="utf-16")
        monkeypatch.setattr(directory_tree, "_MOST_OCTETS", 1000)
        (tmp_path / "dump.json").write_text(" " * 1001)
        (tmp_path / "linked").unlink()
        await until(lambda: len(follower.invalid) == 6)
        assert sorted(invalid.reason or "" for invalid in follower.invalid) == [
            "dump.json: larger than 0 MiB; several files may share what it has",
            "linked.yaml: a link that leads nowhere: No such file or directory",
            "loop.yaml: a link that leads nowhere: Too many levels of symbolic links",
            "pipe.yaml: no regular file",
            "text.yaml: not UTF-8 text",
            "through.yaml: a link that leads nowhere: No such file or directory",
        ]
        (tmp_path / "a.yaml").write_text(text("a"))
        await follower.until("a", "linked")
        assert store.health().current
        (tmp_path / "linked.yaml").unlink()
        await follower.until("a")


async def test_what_cannot_be_read_is_named_as_far_as_can_be_told(
    store: DirectoryStore, tmp_path: Path
) -> None:
    settings = "kind: {}\nmetadata:\n  name: 'default'\nspec: {{asNumber: 65000}}\n"
    two = settings.format("BGPConfiguration") + "---\n" + text("x") + "---\n" + text("y") + "}"
    (tmp_path / "settings.yaml").write_text(two)
    (tmp_path / "nodes.yaml").write_text(text("x") + "---\n" + text("y") + "}")
    (tmp_path / "one.json").write_text('{"kind":"Node","metadata":{"name":"one"},')
    path = tmp_path / "n.yaml"
    path.write_text(text("n"))
    async with following(store) as follower:
        configuration, one, n = Key("BGPConfiguration", "default"), Key("Node", "one"), Key("Node", "n")
        x, y = Key("Node", "x"), Key("Node", "y")
        told = [(invalid.place, invalid.key) for invalid in follower.invalid]
        settings_too = [("settings.yaml", key) for key in (configuration, x, y)]
        assert told == [("nodes.yaml", x), ("nodes.yaml", y), ("one.json", one), *settings_too]

        async def next_told() -> list[tuple[Key | None, bool]]:
            await until(lambda: follower.invalid)
            told = [(invalid.key, invalid.reason is None) for invalid in follower.invalid]
            follower.invalid.clear()
            return told

        follower.invalid.clear()
        path.write_bytes(b"\xff")
        assert await next_told() == [(n, False)]
        path.write_text(text("n"))  # as it was: no change says that it is there, so nothing says it is not
        assert await next_told() == [(None, True)]
        path.write_text(text("n") + "}")
        assert await next_told() == [(n, False)]
        path.write_text(text("n", "10.0.0.9/24"))
        assert await next_told() == [(n, True)]
        (tmp_path / "one.json").unlink()
        assert await next_told() == [(one, True)]
        (tmp_path / "settings.yaml").write_bytes(b"\xff")
        assert await next_told() == [(configuration, False), (x, False), (y, False)]
        (tmp_path / "settings.yaml").write_text(text("z") + "}")
        gone = [(key, True) for key in (configuration, x, y)]
        assert await next_told() == [*gone, (Key("Node", "z"), False)]


@pytest.mark.parametrize("fault", [b"}", b"\xff"])
async def test_what_is_waited_for_is_named_in_any_file(
    store: DirectoryStore, tmp_path: Path, fault: bytes
) -> None:
    head = b"apiVersion: projectcalico.org/v3\nkind: "
    documents = (
        b"IPPool\nmetadata: {name: p}\nspec: {cidr: 10.77.0.0/16}\n",
        b"BGPFilter\nmetadata: {name: f}\n",
        b"BlockAffinity\nmetadata: {name: a-10-77-0-0-26}\nspec: {node: a, cidr: 10.77.0.0/26}\n",
    )
    (tmp_path / "all.yaml").write_bytes(b"---\n".join(head + each for each in documents) + fault)
    async with following(store) as follower:
        keys = [Key("IPPool", "p"), Key("BGPFilter", "f"), Key("BlockAffinity", "a/10.77.0.0/26")]
        assert [invalid.key for invalid in follower.invalid] == keys


async def test_a_lock_that_somebody_keeps_is_said_and_waited_for(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await store.create(node("a"))
    async with following(store) as follower:
        monkeypatch.setattr(directory_tree, "_PATIENCE", 0.05)
        with (tmp_path / ".cairn" / "lock").open() as lock, caplog.at_level(logging.WARNING):
            fcntl.flock(lock, fcntl.LOCK_EX)
            await until(lambda: not store.health().current)
            assert "another process has held this lock" in store.health().reason
            with pytest.raises(DatastoreError, match="another process"):
                await store.create(node("b"))
            await until(lambda: "another process has held this lock" in caplog.text)
        await store.create(node("b"))
        await follower.until("a", "b")
        assert store.health().current


@pytest.mark.parametrize("lease", ["[]", "null", '{"ttl": "x"}', "[" * 100_000])
async def test_a_lease_that_is_none_counts_as_none(store: DirectoryStore, tmp_path: Path, lease: str) -> None:
    (tmp_path / ".cairn" / "leases").mkdir(parents=True)
    (tmp_path / ".cairn" / "leases" / "n.yaml").write_text(lease)
    await store.create(node("a"))
    assert [entry.key.kind for entry in (await store.list()).entries] == ["Node"]


async def test_duplicates_are_reported_and_the_first_wins(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "1.yaml").write_text(text("a", "10.0.0.1/24"))
    (tmp_path / "2.yaml").write_text(text("a", "10.0.0.2/24"))
    snapshot = await store.list()
    assert len(snapshot.entries) == 1
    assert [invalid.place for invalid in snapshot.invalid] == ["2.yaml"]
    assert "already given by 1.yaml" in (snapshot.invalid[0].reason or "")


async def test_editors_and_checkouts_do_not_flap(store: DirectoryStore, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text("a"))
    async with following(store) as follower:
        for number in range(20):  # as `git checkout`, `vi`, and `>` do it, caught in the act by a fast poll
            new = text("a", f"10.0.{number}.1/24")
            match number % 3:
                case 0:
                    path.unlink()
                    path.write_text(new)
                case 1:
                    path.rename(tmp_path / "a.yaml~")
                    path.write_text(new)
                case _:
                    with path.open("w") as file:
                        file.flush()
                        file.write(new)
            await follower.until("a")
            expected = node("a", f"10.0.{number}.1/24")
            await until(lambda wanted=expected: follower.view[Key("Node", "a")].resource == wanted)  # type: ignore[misc]  # a lambda's default has no type
        assert all(change.entry for update in follower.updates for change in update.changes)
        path.unlink()
        await follower.until()


async def test_a_change_within_one_tick_and_of_one_size_is_seen(
    store: DirectoryStore, tmp_path: Path
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text("a", "10.0.0.1/24"))
    async with following(store) as follower:
        times = path.stat()
        path.write_text(text("a", "10.0.0.2/24"))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        await until(lambda: follower.view[Key("Node", "a")].resource == node("a", "10.0.0.2/24"))


async def test_whoever_takes_long_over_what_it_is_told_hears_the_next_at_once(
    store: DirectoryStore, tmp_path: Path
) -> None:
    """It is looking that may be expensive, not what its reader does with it."""
    (tmp_path / "a.yaml").write_text(text("a"))
    async with aclosing(store.watch()) as updates:
        await anext(updates)
        await asyncio.sleep(3)
        (tmp_path / "b.yaml").write_text(text("b"))
        async with asyncio.timeout(30):
            await anext(updates)


async def test_edits_leave_other_documents_alone(store: DirectoryStore, tmp_path: Path) -> None:
    path = tmp_path / "nodes.yaml"
    path.write_text(f"# first\n{text('a')}---\n# second, by hand\n{text('b')}---\n# third\n{text('c')}")
    entry = await store.get(Key("Node", "b"))
    assert entry is not None
    await store.update(node("b", "10.0.0.9/24"), entry.revision)
    written = path.read_text()
    assert f"# first\n{text('a')}" in written
    assert f"# third\n{text('c')}" in written
    assert "10.0.0.9/24" in written
    await store.delete(Key("Node", "a"))
    await store.delete(Key("Node", "b"))
    assert path.read_text().strip() == f"# third\n{text('c')}".strip()
    await store.delete(Key("Node", "c"))
    assert not path.exists()


async def test_a_file_with_a_directive_is_edited_too(store: DirectoryStore, tmp_path: Path) -> None:
    path = tmp_path / "nodes.yaml"
    path.write_text(f"%YAML 1.1\n---\n{text('a')}---\n{text('b')}")
    await store.delete(Key("Node", "a"))
    assert path.read_text() == f"%YAML 1.1\n---\n{text('b')}"
    path.write_text(f"{text('a')}...\n%YAML 1.1\n---\n{text('b')}")
    with pytest.raises(ResourceError, match=r"^nodes\.yaml:"):
        await store.delete(Key("Node", "a"))


async def test_json_stays_json(store: DirectoryStore, tmp_path: Path) -> None:
    document = {"apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": {"name": "a"}}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    (entry,) = (await store.list()).entries
    await store.update(node("a", "10.0.0.9/24"), entry.revision)
    assert json.loads(path.read_text())["spec"]["bgp"]["ipv4Address"] == "10.0.0.9/24"


async def test_missing_directory(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "absent", poll=0.02)
    with pytest.raises(Unavailable, match="absent"):
        await store.list()
    assert not store.health().current
    assert "there is no such directory" in store.health().reason
    await store.create(node("a"))
    assert store.health().current
    assert len((await store.list()).entries) == 1
    await store.close()


CONTENDER = """
import asyncio, sys
from pathlib import Path
from bgpd.datastore import Conflict
from bgpd.datastore.directory import DirectoryStore
from bgpd.resources import Key
from tests.datastore.follower import node

async def main():
    store, won = DirectoryStore(Path(sys.argv[1])), 0
    for attempt in range(400):
        entry = await store.get(Key("Node", "counter"))
        count = int(str(entry.resource.ipv4.ip).rsplit(".", 1)[1])
        try:
            await store.update(node("counter", f"10.0.0.{count + 1}/24"), entry.revision)
            won += 1
        except Conflict:
            continue
        if won == 20:
            print(won)
            return

asyncio.run(main())
"""


async def test_compare_and_swap_across_processes(store: DirectoryStore, tmp_path: Path) -> None:
    await store.create(node("counter", "10.0.0.0/24"))
    root = Path(__file__).parents[2]
    contenders = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", CONTENDER, str(tmp_path), cwd=root, stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    answers = [await contender.communicate() for contender in contenders]
    assert [answer.strip() for answer, _ in answers] == [b"20"] * 3
    entry = await store.get(Key("Node", "counter"))
    assert entry is not None
    assert entry.resource == node("counter", "10.0.0.60/24")


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_commit_cut_short_by_a_crash_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    tree = DirectoryTree(tmp_path)
    before = tree.commit([Create(node("a"))]).entries[Key("Node", "a")]
    crashed = DirectoryTree(tmp_path)
    renames = 0
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        nonlocal renames
        if self.name.startswith(".cairn-new-"):
            renames += 1
            if renames > done:
                raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    writes: list[Write] = [
        Update(node("a", "10.0.0.2/24"), before.revision),
        Create(node("b")),
        Create(node("c")),
    ]
    with pytest.raises(KeyboardInterrupt):
        crashed.commit(writes)
    monkeypatch.undo()
    entries = DirectoryTree(tmp_path).look().entries
    assert [key.name for key in entries] == ["a", "b", "c"]
    assert entries[Key("Node", "a")].resource == node("a", "10.0.0.2/24")
    assert not (tmp_path / ".cairn" / "journal").exists()
    assert left_beside(tmp_path) == []


def left_beside(root: Path) -> list[Path]:
    """What commits put beside their targets."""
    return [path for path in root.rglob(".cairn-*") if path.is_file()]


def contents(root: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in root.rglob("*.yaml")}


def refuse_rename(monkeypatch: pytest.MonkeyPatch, refused: Callable[[Path, Path], bool]) -> None:
    rename = Path.rename

    def refusing(self: Path, target: Path) -> Path:
        if refused(self, target):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(target))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refusing)


def three_writes(tree: DirectoryTree) -> list[Write]:
    """A change, a removal and a new resource, in the order of their files."""
    found = tree.commit([Create(node("a")), Create(node("b"))]).entries
    return [
        Update(node("a", "10.0.0.2/24"), found[Key("Node", "a")].revision),
        Delete(Key("Node", "b")),
        Create(node("c")),
    ]


async def test_what_is_refused_in_the_middle_is_undone(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = three_writes(DirectoryTree(tmp_path))
    before = contents(tmp_path)
    async with following(store) as follower:
        await follower.until("a", "b")
        refuse_rename(monkeypatch, lambda _, target: target.name == "c.yaml")
        with pytest.raises(DatastoreError, match=r"c\.yaml: .*busy; nothing was written"):
            await store.commit(writes)
        monkeypatch.undo()
        assert contents(tmp_path) == before
        assert left_beside(tmp_path) == []
        assert store.health().current
        await store.commit(writes)
        await follower.until("a", "c")


def test_what_cannot_be_undone_either_is_undone_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = three_writes(DirectoryTree(tmp_path))
    before = contents(tmp_path)
    refuse_rename(
        monkeypatch,
        lambda aside, target: target.name == "c.yaml" or aside.name.startswith(".cairn-old-"),
    )
    with pytest.raises(Unavailable, match="cannot be undone yet"):
        DirectoryTree(tmp_path).commit(writes)
    with pytest.raises(Unavailable, match="neither finished nor undone"):
        DirectoryTree(tmp_path).look()
    monkeypatch.undo()
    assert [key.name for key in DirectoryTree(tmp_path).look().entries] == ["a", "b"]
    assert contents(tmp_path) == before
    assert left_beside(tmp_path) == []


def test_what_is_refused_beforehand_changes_nothing(tmp_path: Path) -> None:
    tree = DirectoryTree(tmp_path)
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "folder").write_text("")
    (tmp_path / "ippools").write_text("in the way")
    pool = Key("IPPool", "p")
    document = b'{"spec": {"cidr": "10.0.0.0/16"}}'
    with pytest.raises(DatastoreError, match=r"ippools: .*; nothing was written"):
        tree.commit([Create(node("z")), Create(decode(pool, document))])
    assert contents(tmp_path) == {}
    assert left_beside(tmp_path) == []
    assert tree.look().entries == {}
    tree.commit([Create(node("z"))])
    assert [key.name for key in tree.look().entries] == ["z"]


def test_a_commit_cut_short_before_its_journal_is_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = DirectoryTree(tmp_path)
    monkeypatch.setattr(Path, "rename", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        tree.commit([Create(node("a"))])
    monkeypatch.undo()
    assert left_beside(tmp_path)
    assert tree.look().entries == {}
    tree.commit([Create(node("b"))])
    assert left_beside(tmp_path) == []
    assert [key.name for key in tree.look().entries] == ["b"]


async def test_an_empty_directory_in_its_place_deletes_nothing(tmp_path: Path) -> None:
    """What is left where something was mounted; emptied by hand, a directory is empty."""
    root = tmp_path / "state"
    store = DirectoryStore(root, poll=0.02)
    try:
        await store.create(node("a"))
        hold = await store.hold("a")
        async with following(store) as follower:
            await follower.until("a")
            root.rename(tmp_path / "aside")
            root.mkdir()
            await hold.acquire()  # writes into the empty one
            await until(lambda: not store.health().current)
            assert "is something not mounted?" in (store.health().reason or "")
            assert Key("Node", "a") in follower.view
            shutil.rmtree(root)
            (tmp_path / "aside").rename(root)
            await until(lambda: store.health().current)
            assert Key("Node", "a") in follower.view
            for path in root.glob("**/*.yaml"):
                path.unlink()
            await until(lambda: Key("Node", "a") not in follower.view)
    finally:
        await store.close()


async def test_who_cannot_look_keeps_what_was_seen(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.yaml").write_text(text("a"))
    async with following(store) as follower:
        stale = OSError(errno.ESTALE, "Stale file handle")
        monkeypatch.setattr(DirectoryTree, "_scan", Mock(side_effect=stale))
        await until(lambda: not store.health().current)
        assert "Stale file handle" in store.health().reason
        monkeypatch.undo()
        (tmp_path / "b.yaml").write_text(text("b"))
        await follower.until("a", "b")


def test_names_become_files_that_there_can_be(tmp_path: Path) -> None:
    tree = DirectoryTree(tmp_path)
    names = ["n" * 253, "n" * 252 + "m"]
    tree.commit([Create(node(name)) for name in names])
    assert [key.name for key in DirectoryTree(tmp_path).look().entries] == sorted(names)
    assert path_for(Key("IPAMHandle", "..")).name == "%2E..yaml"


def test_a_conflict_writes_nothing(tmp_path: Path) -> None:
    tree = DirectoryTree(tmp_path)
    tree.commit([Create(node("a"))])
    before = sorted(str(path) for path in tmp_path.rglob("*.yaml"))
    with pytest.raises(Conflict):
        tree.commit([Create(node("b")), Create(node("a"))])
    assert sorted(str(path) for path in tmp_path.rglob("*.yaml")) == before
