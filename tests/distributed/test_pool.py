"""The contract of a pool: the same cases on actors of Ray and in this process."""

import sys

import pytest

from advrec.distributed.placement import Placement
from advrec.distributed.pool import Unit, open_pool
from advrec.distributed.session import session


class Worker:
    def __init__(self, offset):
        self.offset = offset
        self.broken = False

    def add(self, number):
        assert not self.broken, "a worker that failed gets no more work"
        return number + self.offset

    def add_to(self, reference):
        return reference() + self.offset

    def fail(self, flag):
        self.broken = True
        with flag.open("a") as attempts:
            attempts.write("x")
        raise ValueError("no such thing\nbut a second line")

    def fail_once(self, flag):
        if not flag.exists():
            self.fail(flag)
        return self.offset


@pytest.fixture(scope="module")
def connected(ray_address):
    with session(ray_address):
        yield


@pytest.fixture(params=[0, pytest.param(1, marks=pytest.mark.ray)], ids=["here", "actors"])
def pool(request):
    if request.param:
        request.getfixturevalue("connected")
    with open_pool(Worker, 100, placement=Placement(request.param, 0.0, 1)) as pool:
        yield pool


def unit(key, method, *arguments):
    return Unit(key=key, method=method, arguments=lambda: arguments)


def test_one_worker_gives_one_result_a_unit_in_order(pool):
    results = []
    units = [unit(str(n), "add", n) for n in range(5)]
    assert pool.run(units, lambda unit, result: results.append((unit.key, result))) == {}
    assert results == [(str(n), 100 + n) for n in range(5)]
    assert [done.attempts for done in units] == [1] * 5


def test_a_pool_is_used_for_several_runs(pool):
    results = []
    for n in range(3):
        pool.run([unit("a", "add", n)], lambda unit, result: results.append(result))
    assert results == [100, 101, 102]


def test_a_value_that_was_put_reaches_the_worker(pool):
    results = []
    units = [unit("a", "add_to", pool.put(7))]
    pool.run(units, lambda unit, result: results.append(result))
    assert results == [107]


def test_three_attempts_then_set_aside_with_the_errors_first_line(pool, tmp_path):
    results, told = {}, []
    units = [unit("bad", "fail", tmp_path / "attempts"), unit("good", "add", 1)]
    set_aside = pool.run(
        units,
        lambda unit, result: results.__setitem__(unit.key, result),
        lambda unit, reason: told.append((unit.key, reason)),
    )
    reason = "ValueError: no such thing (3 attempts)"
    assert set_aside == {"bad": reason}
    assert told == [("bad", reason)]
    assert results == {"good": 101}
    assert (tmp_path / "attempts").read_text() == "xxx"


def test_a_unit_that_fails_once_is_tried_again_after_the_others(pool, tmp_path):
    results = []
    units = [unit("once", "fail_once", tmp_path / "flag"), unit("other", "add", 1)]
    assert pool.run(units, lambda unit, result: results.append(unit.key)) == {}
    assert results == ["other", "once"]
    assert units[0].attempts == 2


def test_arguments_are_made_when_a_unit_is_sent_off(pool):
    results, made = [], []

    def arguments(n):
        made.append(len(results))
        return (n,)

    units = [Unit(key=str(n), method="add", arguments=lambda n=n: arguments(n)) for n in range(3)]
    pool.run(units, lambda unit, result: results.append(result))
    assert made == [0, 1, 2]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_the_driver_raises_passes_through(pool, error):
    def on_result(unit, result):
        raise error

    with pytest.raises(error):
        pool.run([unit("a", "add", 1)], on_result)


def test_a_unit_that_exits_is_set_aside_as_one_that_fails():
    """As on an actor, whose process ends: `sys.exit()` in a user's module ends no command."""

    class Exits:
        def work(self):
            sys.exit("enough")

        def fine(self):
            return 1

    results = []
    with open_pool(Exits, placement=Placement(0, 0.0, 1)) as pool:
        units = [unit("bad", "work"), unit("good", "fine")]
        set_aside = pool.run(units, lambda unit, result: results.append(result))
    assert set_aside == {"bad": "SystemExit: enough (3 attempts)"}
    assert results == [1]


def test_ctrl_c_in_a_unit_of_this_process_passes_through():
    class Interrupted:
        def work(self):
            raise KeyboardInterrupt

    with (
        open_pool(Interrupted, placement=Placement(0, 0.0, 1)) as pool,
        pytest.raises(KeyboardInterrupt),
    ):
        pool.run([unit("a", "work")], lambda unit, result: None)
