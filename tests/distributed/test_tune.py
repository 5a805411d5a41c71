"""Searchers, asked for trials without Ray."""

import pytest
from ray.tune.experiment import Experiment

from advrec.distributed import tune
from advrec.spec.search import TuneSpec

SPACE = {"models.m.epochs": {"randint": (1, 9)}}


def offered(searcher):
    """Every trial that a searcher offers before any has ended."""
    return list(iter(searcher.next_trial, None))


@pytest.mark.parametrize(("concurrency", "expected"), [("auto", 5), (2, 2), (1, 1)])
def test_a_random_search_offers_no_more_trials_than_may_run_at_once(
    tmp_path, concurrency, expected
):
    """Ray Tune's own limit does not hold for it: findings/tune-concurrency-dropped.sh."""
    spec = TuneSpec(
        name="a", study="s", model="m", space=SPACE, searcher="random", concurrency=concurrency
    )
    searcher = tune._searcher(spec)
    experiment = Experiment(
        "e", lambda _: None, config=tune._space(spec), num_samples=5, storage_path=str(tmp_path)
    )
    searcher.add_configurations([experiment])
    trials = offered(searcher)
    assert len(trials) == expected
    searcher.on_trial_complete(trials[0].trial_id)
    assert len(offered(searcher)) == (0 if concurrency == "auto" else 1)
