"""The pool against real deaths: actors that are killed, units that kill every actor, exceptions."""

import os
import signal
import threading
import time

import pytest
import ray
from ray.cluster_utils import Cluster

from advrec.distributed import engine
from advrec.distributed.pool import Unit
from advrec.errors import AdvrecError

pytestmark = pytest.mark.ray


class Worker:
    def square(self, number):
        return number * number

    def crash_once(self, number, flag):
        if not os.path.exists(flag):
            open(flag, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    def poison(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def wait_for(self, flag):
        deadline = time.monotonic() + 60
        while not os.path.exists(flag):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def slow_pid(self):
        time.sleep(0.5)
        return os.getpid()

    def go_bad(self, flag):
        if not os.path.exists(flag):
            open(flag, "w").close()
            self.bad = True
            raise RuntimeError("device-side assert")

    def square_unless_bad(self, number):
        assert not getattr(self, "bad", False)
        return number * number

    def raise_an_error(self):
        raise ValueError("no such thing")


class Broken(Worker):
    def __init__(self):
        raise ImportError("no module named shop")


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one core each, on this machine."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    made.add_node(num_cpus=1)
    made.connect()
    yield made
    ray.shutdown()
    made.shutdown()


def start():
    return ray.remote(Worker).options(num_cpus=1, max_restarts=0).remote()


def unit(key, method, *arguments):
    return Unit(key=key, method=method, arguments=lambda: arguments)


def run(*units, actors=2):
    results = {}
    with engine.Actors(start, actors) as pool:
        set_aside = pool.run(units, lambda unit, result: results.__setitem__(unit.key, result))
    return results, set_aside


def test_every_unit_gives_one_result(cluster):
    results, set_aside = run(*(unit(str(n), "square", n) for n in range(20)))
    assert results == {str(n): n * n for n in range(20)}
    assert set_aside == {}


def test_a_dead_actor_is_replaced_and_its_unit_tried_again(cluster, tmp_path):
    results, set_aside = run(
        unit("crash", "crash_once", 5, str(tmp_path / "flag")),
        *(unit(str(n), "square", n) for n in range(6)),
    )
    assert results == {"crash": 5} | {str(n): n * n for n in range(6)}
    assert set_aside == {}


def test_hopeless_units_are_set_aside_with_the_reason_while_others_finish(cluster):
    results, set_aside = run(
        unit("poison", "poison"),
        unit("error", "raise_an_error"),
        *(unit(str(n), "square", n) for n in range(4)),
    )
    assert results == {str(n): n * n for n in range(4)}
    assert set_aside["error"] == "ValueError: no such thing (3 attempts)"
    assert "died" in set_aside["poison"]
    assert "3 attempts" in set_aside["poison"]


def test_what_is_given_up_on_is_told_at_once(cluster, tmp_path):
    told = []
    units = [unit("poison", "poison"), unit("waits", "wait_for", str(tmp_path / "told"))]

    def on_set_aside(given_up, reason):
        told.append(given_up.key)
        (tmp_path / "told").touch()  # the other ends after it

    with engine.Actors(start, 2) as pool:
        assert list(pool.run(units, lambda unit, result: told.append(unit.key), on_set_aside)) == [
            "poison"
        ]
    assert told == ["poison", "waits"]


def test_an_actor_without_a_place_holds_no_work(cluster):
    """Two cores, three actors: the third never starts, and nothing waits for it."""
    results, set_aside = run(*(unit(str(n), "square", n) for n in range(6)), actors=3)
    assert results == {str(n): n * n for n in range(6)}
    assert set_aside == {}


def test_work_waits_for_a_node_that_comes_later(cluster):
    def start_elsewhere():
        return (
            ray.remote(Worker).options(num_cpus=1, resources={"late": 1}, max_restarts=0).remote()
        )

    results = []

    def work():
        with engine.Actors(start_elsewhere, 2) as pool:
            pool.run(
                [unit(str(n), "square", n) for n in range(4)],
                lambda unit, result: results.append(result),
            )

    working = threading.Thread(target=work)
    working.start()
    time.sleep(2)
    assert results == []
    late = cluster.add_node(num_cpus=1, resources={"late": 1})
    working.join(60)
    cluster.remove_node(late)
    assert sorted(results) == [0, 1, 4, 9]


@pytest.fixture
def short_of_memory(monkeypatch):
    """Every death is one by Ray's memory monitor."""
    get = ray.get

    def get_or_say(reference):
        try:
            return get(reference)
        except ray.exceptions.ActorDiedError:
            message = "1 worker(s) were killed due to the node running low on memory.\nMore"
            raise ray.exceptions.OutOfMemoryError(message) from None

    monkeypatch.setattr("ray.get", get_or_say)


def test_a_kill_for_memory_costs_a_unit_no_attempt_while_fewer_processes_go_on(
    cluster, tmp_path, short_of_memory
):
    crash = unit("crash", "crash_once", 5, str(tmp_path / "flag"))
    poison = unit("poison", "poison")
    results = {}
    with engine.Actors(start, 2) as pool:

        def run(*units):
            return pool.run(units, lambda unit, result: results.__setitem__(unit.key, result))

        assert run(crash, unit("1", "square", 1)) == {}
        assert results == {"crash": 5, "1": 1}
        assert crash.attempts == 1
        (reason,) = run(poison, unit("2", "square", 2)).values()  # the last process, for all it has
        assert results["2"] == 4
    assert "low on memory.; a smaller evaluation.batch helps (3 attempts)" in reason


def test_a_unit_too_large_for_any_process_costs_one_process(cluster, short_of_memory):
    with engine.Actors(start, 2) as pool:
        poison = unit("poison", "poison")
        assert list(pool.run([poison, unit("1", "square", 1)], lambda unit, result: None)) == [
            "poison"
        ]
        assert poison.attempts == 3
        assert pool.run([unit(str(n), "slow_pid") for n in range(3)], lambda *_: None) == {}


def test_one_process_too_few_for_one_unit_is_started_again(cluster, tmp_path, short_of_memory):
    """A pool of two that has started one: when that one is killed, none is left."""
    crash = unit("crash", "crash_once", 5, str(tmp_path / "flag"))
    results, set_aside = run(crash)
    assert (results, set_aside, crash.attempts) == ({"crash": 5}, {}, 1)


def test_a_process_that_fails_once_gets_no_more_work(cluster, tmp_path):
    """As one whose GPU is in a bad state would: it alone would fail everything that waits, while
    another is at work.
    """
    units = [
        unit("bad", "go_bad", str(tmp_path / "flag")),
        *(unit(str(n), "square_unless_bad", n) for n in range(8)),
    ]
    results = {}
    with engine.Actors(start, 1) as pool:
        set_aside = pool.run(units, lambda unit, result: results.__setitem__(unit.key, result))
    assert set_aside == {}
    assert results == {"bad": None} | {str(n): n * n for n in range(8)}


def test_actors_that_died_while_idle_cost_a_unit_no_attempt(cluster):
    results = []
    with engine.Actors(start, 2) as pool:
        pool.run(
            [unit(str(n), "slow_pid") for n in range(2)],
            lambda unit, result: results.append(result),
        )
        for pid in set(results):
            os.kill(pid, signal.SIGKILL)
        again = [unit(str(n), "square", n) for n in range(4)]
        assert pool.run(again, lambda unit, result: None) == {}
    assert [done.attempts for done in again] == [1] * 4


@pytest.mark.parametrize(("renew_s", "processes"), [(0.0, 4), (3600.0, 1)])
def test_an_old_process_is_replaced_between_units_and_nothing_is_lost(cluster, renew_s, processes):
    results = []
    with engine.Actors(start, 1, renew_s=renew_s) as pool:
        for keys in ("abc", "d"):  # in a later run, too
            units = [unit(key, "slow_pid") for key in keys]
            assert pool.run(units, lambda unit, pid: results.append((unit.key, pid))) == {}
            assert all(done.attempts == 1 for done in units)
    assert [key for key, _ in results] == list("abcd")
    assert len({pid for _, pid in results}) == processes


def test_a_place_where_nothing_starts_does_not_end_what_works_elsewhere(cluster):
    made = []

    def start_one_and_then_broken_ones():
        made.append(Broken if made else Worker)
        return ray.remote(made[-1]).options(num_cpus=1, max_restarts=0).remote()

    results = []
    with engine.Actors(start_one_and_then_broken_ones, 2) as pool:
        assert (
            pool.run(
                [unit(str(n), "slow_pid") for n in range(12)],
                lambda unit, result: results.append(result),
            )
            == {}
        )
    assert len(results) == 12
    assert made.count(Broken) >= 2


def test_actors_that_never_start_end_the_run_with_the_reason(cluster):
    with (
        pytest.raises(AdvrecError, match="no module named shop"),
        engine.Actors(
            lambda: ray.remote(Broken).options(num_cpus=1, max_restarts=0).remote(), 2
        ) as pool,
    ):
        pool.run([unit("a", "square", 1)], lambda unit, result: None)


def test_a_pool_is_used_for_several_runs(cluster):
    results = []
    with engine.Actors(start, 2) as pool:
        for n in range(3):
            pool.run([unit("a", "square", n)], lambda unit, result: results.append(result))
    assert results == [0, 1, 4]
