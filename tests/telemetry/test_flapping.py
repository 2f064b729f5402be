"""When a session is called flapping."""

from bgpd.telemetry.flapping import MANY, WITHIN, Flapping


def test_three_losses_within_a_quarter_of_an_hour_once() -> None:
    flapping = Flapping()
    assert [at for at in range(0, 50, 10) if flapping.lost("a", at)] == [20]
    assert not any(flapping.lost("b", at) for at in (0.0, 10.0))
    assert flapping.lost("a", 19.0 + WITHIN) is False
    assert flapping.lost("a", 20.0 + WITHIN) is True  # it goes on: said again
    assert flapping.lost("a", 21.0 + WITHIN) is False
    assert MANY == 3


def test_slow_losses_are_none_and_the_quiet_are_forgotten() -> None:
    flapping = Flapping()
    assert not any(flapping.lost("slow", at * (WITHIN / 2 + 1)) for at in range(20))
    for number in range(10_000):
        flapping.lost(str(number), number * 10.0)
    assert len(flapping._lost) < 2 * WITHIN / 10 + 3


def test_a_crowd_that_is_lost_at_once_is_looked_through_once() -> None:
    """A reflector may lose thousands of sessions in one turn."""

    class Counting(Flapping):
        looks = 0

        def _forget(self, now: float) -> None:
            self.looks += 1
            super()._forget(now)

    flapping = Counting()
    for number in range(1000):
        flapping.lost(f"192.0.2.{number}", 1000.0 + number / 1e6)
    assert flapping.looks == 1
    flapping.lost("192.0.2.1", 1001.0 + WITHIN)
    assert flapping.looks == 2
