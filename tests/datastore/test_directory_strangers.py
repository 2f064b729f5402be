"""What a directory holds that is none of its own, and who may only read it."""

import json
import shutil
from pathlib import Path

import pytest

from bgpd.datastore import DatastoreError, Unavailable, directory_tree
from bgpd.datastore.directory_tree import DirectoryTree
from bgpd.datastore.files import revision_of
from bgpd.datastore.store import Create, Update
from tests.datastore.follower import node, text


@pytest.mark.parametrize(
    "journal",
    [
        {"moves": [["", "{away}/victim", ""]], "asides": []},
        {"moves": [["", "../away/victim", ""]], "asides": []},
        {"moves": [["{away}/victim", "n.yaml", ""]], "asides": []},
        {"moves": [["a.yaml", "b.yaml", ""]], "asides": []},
        {"moves": [[".cairn-new-0", "../away/victim", ""]], "asides": []},
        {"moves": [], "asides": ["{away}/victim"]},
        {"moves": [], "asides": ["link/.cairn-new-0"]},
        {"moves": [["", "link/victim", ""]], "asides": []},
        {"moves": [[1, 2, 3]], "asides": []},
        {"moves": [["a"]], "asides": []},
        {"moves": [], "asides": [], "generation": 5},
        {"moves": []},
    ],
)
def test_a_journal_that_came_along_moves_nothing_elsewhere(
    journal: dict[str, object], tmp_path: Path
) -> None:
    root, away = tmp_path / "root", tmp_path / "away"
    (root / ".cairn").mkdir(parents=True)
    away.mkdir()
    (away / "victim").write_text("precious")
    (away / ".cairn-new-0").write_text("precious")
    (root / ".cairn-new-0").write_text(text("n"))
    (root / "a.yaml").write_text(text("a"))
    (root / "link").symlink_to(away)
    whole = json.dumps({"generation": "1", "undoes": False} | journal).replace("{away}", str(away))
    (root / ".cairn" / "journal").write_text(whole)
    with pytest.raises(Unavailable, match=r"damaged, or none of ours|a link"):
        DirectoryTree(root).look()
    assert {path.name: path.read_text() for path in away.iterdir()} == {
        "victim": "precious",
        ".cairn-new-0": "precious",
    }
    assert (root / "a.yaml").exists()


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    root, away = tmp_path / "root", tmp_path / "away"
    away.mkdir()
    (away / "victim").write_text("precious")
    for link in (
        ".cairn/.gitignore",
        ".cairn/generation",
        ".cairn/journal.part",
        "nodes/.cairn-new-0",
        "nodes/.cairn-old-0",
    ):
        (root / link).parent.mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(away / "victim")
    tree = DirectoryTree(root)
    tree.commit([Create(node("a"))])
    tree.commit([Update(node("a", "10.0.0.2/24"), revision_of(node("a")))])
    assert (away / "victim").read_text() == "precious"
    assert not (root / "nodes" / "a.yaml").is_symlink()
    shutil.rmtree(root / "nodes")
    (root / "nodes").symlink_to(away)
    with pytest.raises(DatastoreError, match=r"nodes: a link.*nothing was written"):
        tree.commit([Create(node("b"))])
    assert [path.name for path in away.iterdir()] == ["victim"]


def test_strangers_cannot_hold_the_lock(tmp_path: Path) -> None:
    DirectoryTree(tmp_path).commit([Create(node("a"))])
    assert (tmp_path / ".cairn" / "lock").stat().st_mode & 0o007 == 0


def test_who_may_not_hold_the_lock_sees_whole_commits_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For whom it is a link, as good as one he may not open."""
    DirectoryTree(tmp_path).commit([Create(node("a"))])
    (tmp_path / ".cairn" / "lock").unlink()
    (tmp_path / ".cairn" / "lock").symlink_to(tmp_path / "elsewhere")
    scan, stages = DirectoryTree._scan, iter(("first half", "second half", "done"))

    def scanning(tree: DirectoryTree, *, trust: bool = False) -> None:
        scan(tree, trust=trust)
        stage = next(stages, "")
        if stage == "first half":
            (tmp_path / ".cairn" / "journal").touch()
            (tmp_path / "b.yaml").write_text(text("b"))
        elif stage == "second half":
            (tmp_path / "c.yaml").write_text(text("c"))
            (tmp_path / ".cairn" / "generation").write_text("another")
            (tmp_path / ".cairn" / "journal").unlink()

    monkeypatch.setattr(DirectoryTree, "_scan", scanning)
    reader = DirectoryTree(tmp_path)
    assert {key.name for key in reader.look().entries} == {"a", "b", "c"}
    assert next(stages, None) is None
    monkeypatch.setattr(directory_tree, "_PATIENCE", 0.1)
    (tmp_path / ".cairn" / "journal").touch()
    with pytest.raises(Unavailable, match=r"a change has been under way.*who may write here can finish it"):
        reader.look()
