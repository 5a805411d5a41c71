"""The pool against real deaths: actors that are killed, units that kill every actor, exceptions."""

import os
import signal

import pytest
import ray
from ray.cluster_utils import Cluster

from advrec.distributed import engine


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

    def raise_an_error(self):
        raise ValueError("no such thing")


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
    return engine.Unit(key=key, method=method, arguments=lambda: arguments)


def run(*units, actors=2):
    results = {}
    with engine.Pool(start, actors) as pool:
        set_aside = pool.run(units, lambda unit, result: results.__setitem__(unit.key, result))
    return results, set_aside


def test_every_unit_gives_one_result(cluster):
    results, set_aside = run(*(unit(str(n), "square", n) for n in range(20)))
    assert results == {str(n): n * n for n in range(20)}
    assert set_aside == {}


def test_a_dead_actor_is_replaced_and_its_unit_tried_again(cluster, tmp_path):
    results, set_aside = run(unit("crash", "crash_once", 5, str(tmp_path / "flag")), *(unit(str(n), "square", n) for n in range(6)))
    assert results == {"crash": 5} | {str(n): n * n for n in range(6)}
    assert set_aside == {}


def test_hopeless_units_are_set_aside_with_the_reason_while_others_finish(cluster):
    results, set_aside = run(unit("poison", "poison"), unit("error", "raise_an_error"), *(unit(str(n), "square", n) for n in range(4)))
    assert results == {str(n): n * n for n in range(4)}
    assert set_aside["error"] == "ValueError: no such thing (3 attempts)"
    assert "died" in set_aside["poison"]
    assert "3 attempts" in set_aside["poison"]


def test_a_pool_is_used_for_several_runs(cluster):
    results = []
    with engine.Pool(start, 2) as pool:
        for n in range(3):
            pool.run([unit("a", "square", n)], lambda unit, result: results.append(result))
    assert results == [0, 1, 4]
