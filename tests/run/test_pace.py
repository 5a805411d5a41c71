"""The time left of unequal work, against the clock of a simulation and against closed forms."""

import heapq
import itertools
import random

import pytest

from advrec.run.pace import Pace, Piece


def simulate(pieces, seconds, workers):
    """Yield (time, key) of each end, where idle workers take the next piece, and tell the pace."""
    pace, waiting, running = Pace(pieces), list(pieces), []
    now = 100.0
    while waiting or running:
        while waiting and len(running) < workers:
            key = waiting.pop(0)
            pace.begin(key, now)
            heapq.heappush(running, (now + seconds[key], key))
        now, key = heapq.heappop(running)
        pace.end(key, now)
        yield now, key, pace


def test_nothing_is_said_until_each_kind_is_known_and_then_the_truth():
    """One worker: 10 noise blocks of 1 s, 10 of 60 s; the first of each come first."""
    kinds = {f"{kind} {n}": kind for n in range(10) for kind in ("noise", "auto")}
    pieces = {key: Piece(kind, 32) for key, kind in kinds.items()}
    costs = {"noise": 1.0, "auto": 60.0}
    ends = simulate(pieces, {key: costs[kind] for key, kind in kinds.items()}, 1)
    left = [pace.left(now) for now, _, pace in ends]
    assert left[0] is None
    assert left[1:3] == [9 * 61, pytest.approx(8 + 9 * 60)]
    assert left[-2:] == [60, 0]


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("seed", range(5))
def test_a_tenth_of_each_kind_is_enough_for_a_factor_of_two(workers, seed):
    """Blocks of one kind take 0.5 to 1.5 times their kind's mean, and kinds differ by 4,000."""
    draw = random.Random(seed)
    costs = {"noise": 0.05, "fgsm": 0.4, "pgd": 30.0, "auto, nothing solved": 200.0}
    numbers = {"noise": 40, "fgsm": 40, "pgd": 20, "auto, nothing solved": 30}
    tenth = {f"{kind} {n}" for kind, most in numbers.items() for n in range(most // 10)}
    keys = [(kind, f"{kind} {n}") for kind, most in numbers.items() for n in range(most)]
    keys.sort(key=lambda one: one[1] not in tenth)
    pieces = {key: Piece(kind, 32) for kind, key in keys}
    seconds = {key: costs[kind] * draw.uniform(0.5, 1.5) for kind, key in keys}
    ends = [(now, key, pace.left(now)) for now, key, pace in simulate(pieces, seconds, workers)]
    end = ends[-1][0]
    known = max(place for place, (_, key, _) in enumerate(ends) if key in tenth)
    told = [(end - now, left) for now, _, left in itertools.islice(ends, known, len(ends) - 1)]
    assert len(told) > 20
    wrong = [(true, left) for true, left in told if not true / 2 <= left <= 2 * true]
    assert [one for one in wrong if one[0] > 300] == []  # the last block alone takes 100 to 300 s


def test_a_running_piece_counts_for_what_is_left_of_it_and_a_given_up_one_for_nothing():
    pace = Pace({key: Piece("auto", 4) for key in "abcdef"})
    for key in "ab":
        pace.begin(key, 0.0)
    pace.end("a", 10.0)
    pace.begin("c", 10.0)
    assert pace.left(14.0) == (0 + 6 + 30) / 2  # b is late, c has 6 s left; two at once
    pace.end("b", 14.0, done=False)
    assert pace.left(14.0) == (6 + 30) / 2
    pace.end("c", 24.0)
    assert pace.left(24.0) == pytest.approx(3 * 12 / ((10 + 14 + 14) / 24))
    for key in "de":
        pace.begin(key, 24.0)
        pace.end(key, 24.0, done=False)
    assert pace.left(24.0) == 12  # one piece gains nothing by a second worker


def test_a_piece_that_was_begun_in_vain_kept_its_worker_busy():
    """A worker dies after 4 s with the first of 4 pieces of 10 s; another takes it again."""
    pace = Pace({key: Piece("kind", 1) for key in "abcd"})
    pace.begin("a", 0.0)
    pace.begin("a", 4.0)
    pace.end("a", 14.0)
    assert pace.left(14.0) == pytest.approx(3 * 10)
