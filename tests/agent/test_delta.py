"""The kernel delta against a kernel that others change too: the end never depends on the way there."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.kernel.delta import Delta, Drop, Put

KEYS = ("a", "b", "c", "d")


class Kernel:
    """Ours and others' values by key; refuses what a real one refuses."""

    def __init__(self) -> None:
        self.ours: dict[str, int] = {}
        self.foreign: dict[str, int] = {}

    def take(self, change: Put[str, int] | Drop[str, int], random: Random) -> str:
        if random.random() < 0.2:
            return "refused"
        if isinstance(change, Drop):
            self.ours.pop(change.key, None)
            return "done"
        if change.key in self.foreign:
            return "exists"
        if change.replaces is None and change.key in self.ours:
            return "exists"
        self.ours[change.key] = change.value
        return "done"


def apply(delta: Delta[str, int], kernel: Kernel, random: Random) -> None:
    for change in list(delta.pending()):
        match kernel.take(change, random):
            case "done":
                delta.done(change)
            case "exists":
                delta.observe(dict(kernel.ours), set(kernel.foreign))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_happens_the_kernel_ends_as_wanted_and_foreign_routes_stand(seed: int) -> None:
    random = Random(seed)
    delta, kernel = Delta[str, int](), Kernel()
    kernel.ours = {key: random.randrange(3) for key in KEYS if random.random() < 0.4}  # a former life
    delta.observe(dict(kernel.ours), set())
    delta.sweeping = True
    wanted: dict[str, int] = {}
    for _ in range(random.randrange(60)):
        key = random.choice(KEYS)
        match random.randrange(7):
            case 0 | 1:
                wanted[key] = random.randrange(3)
                delta.want(key, wanted[key])
            case 2:
                wanted.pop(key, None)
                delta.want(key, None)
            case 3:
                apply(delta, kernel, random)
            case 4:  # somebody deletes or alters ours
                if key in kernel.ours:
                    if random.random() < 0.5:
                        del kernel.ours[key]
                        delta.observed(key, None)
                    else:
                        kernel.ours[key] = 9
                        delta.observed(key, 9)
            case 5:  # a foreign route comes, unseen or seen
                if key not in kernel.ours and key not in kernel.foreign:
                    kernel.foreign[key] = 1
                    if random.random() < 0.5:
                        delta.occupied(key, True)
            case 6:
                if kernel.foreign.pop(key, None) is not None:
                    delta.occupied(key, False)
    foreign = dict(kernel.foreign)
    for _ in range(200):
        if not len(delta):
            break
        apply(delta, kernel, random)
    assert kernel.foreign == foreign
    assert kernel.ours == {key: value for key, value in wanted.items() if key not in foreign}
    assert delta.blocked == frozenset(wanted.keys() & foreign.keys())


def test_nothing_unwanted_is_removed_before_sweeping_is_allowed() -> None:
    delta = Delta[str, int]()
    delta.observe({"a": 1, "b": 2}, set())
    delta.want("b", 3)
    delta.want("c", 4)
    assert {type(change).__name__ + change.key for change in delta.pending()} == {"Putb", "Putc"}
    assert delta.unwanted == 1
    assert delta.due("a") is None
    delta.sweeping = True
    assert delta.due("a") == Drop("a", 1)
    assert {type(change).__name__ + change.key for change in delta.pending()} == {"Dropa", "Putb", "Putc"}


def test_what_was_to_be_removed_and_is_gone_is_forgotten() -> None:
    delta = Delta[str, int]()
    delta.observe({"a": 1}, set())
    delta.sweeping = True
    assert delta.observe({}, set()) == 1
    assert list(delta.pending()) == []


def test_a_replacement_names_what_it_replaces_and_a_creation_nothing() -> None:
    delta = Delta[str, int]()
    delta.observe({"a": 1}, set())
    delta.want("a", 2)
    delta.want("b", 2)
    assert set(delta.pending()) == {Put("a", 2, 1), Put("b", 2, None)}


def test_a_route_in_a_foreign_place_waits_until_that_place_is_free() -> None:
    delta = Delta[str, int]()
    delta.observe({}, {"a"})
    delta.want("a", 1)
    assert list(delta.pending()) == []
    assert delta.blocked == {"a"}
    delta.occupied("a", False)
    assert list(delta.pending()) == [Put("a", 1, None)]


@given(st.permutations([("a", 1), ("b", 2), ("c", None), ("a", 1)]))
def test_declarations_commute_and_repeat(declarations: list[tuple[str, int | None]]) -> None:
    delta = Delta[str, int]()
    delta.observe({"c": 3}, set())
    delta.sweeping = True
    for key, value in declarations:
        delta.want(key, value)
    assert sorted(map(str, delta.pending())) == sorted(
        map(str, (Drop("c", 3), Put("a", 1, None), Put("b", 2, None)))
    )


def test_a_complete_look_counts_surprises() -> None:
    delta = Delta[str, int]()
    delta.observe({"a": 1, "b": 1}, set())
    assert delta.observe({"a": 1, "b": 1}, set()) == 0
    assert delta.observe({"a": 2, "c": 1}, set()) == 3


def test_what_was_pending_a_moment_ago_may_not_be_any_more() -> None:
    delta = Delta[str, int]()
    delta.sweeping = True
    delta.observe({"a": 1, "b": 1}, set())
    delta.want("b", 2)
    changes = {change.key: change for change in delta.pending()}
    assert all(map(delta.still, changes.values()))
    delta.want("a", 1)
    delta.want("b", 3)
    assert not any(map(delta.still, changes.values()))
