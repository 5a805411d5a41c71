"""Ranks are computed without shortcuts, and afterwards all is set as it was."""

import numpy as np
import pytest
import threadpoolctl
import torch

from advrec.distributed.placement import Placement
from advrec.evaluation.attack import attack
from advrec.model.arithmetic import exact_arithmetic
from advrec.model.encoder import frozen
from advrec.recommenders import load
from advrec.recommenders.recommender import Recommender
from advrec.search import trial
from advrec.spec.search import TuneSpec
from advrec.stages import forecast
from tests.conftest import random_network, study

cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
SHORTCUTS, EXACT = (2, True, True, False), (2, False, False, True)


def settings():
    return torch.get_num_threads(), cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic


def put(threads, *shortcuts):
    torch.set_num_threads(threads)
    cudnn.allow_tf32, matmul.allow_tf32, cudnn.deterministic = shortcuts


@pytest.fixture(autouse=True)
def _shortcuts():
    """Two threads, and every shortcut, as a user may have them."""
    before = settings()
    put(*SHORTCUTS)
    yield
    put(*before)


@pytest.mark.parametrize(("threads", "expected"), [(1, 1), (None, 2)])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_is_set_is_as_before_whatever_ends_the_work(threads, expected, error):
    def work():
        with exact_arithmetic(threads):
            assert settings() == (expected, False, False, True)
            raise error

    with pytest.raises(error):
        work()
    assert settings() == SHORTCUTS


def test_threads_of_numpy_are_limited_too():
    def blas():
        return {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}

    before = blas()
    with exact_arithmetic(1):
        assert blas() == {1}
    assert blas() == before


def test_a_recommender_and_an_attack_from_python_take_no_shortcuts():
    seen = []

    def encoder(images):
        seen.append(settings())
        return images.flatten(1)[:, ::7]

    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    recommender = Recommender.of(encoder, images)
    assert set(seen) == {EXACT}
    seen.clear()
    attack(recommender, target=0, article=1, attack="pgd-2")
    assert set(seen) == {EXACT}
    assert settings() == SHORTCUTS


def test_a_trial_of_a_search_takes_no_shortcuts(catalog, monkeypatch):
    seen, evaluate_block = [], trial.evaluate_block

    def spied(*arguments):
        seen.append(settings())
        return evaluate_block(*arguments)

    monkeypatch.setattr(trial, "evaluate_block", spied)
    search = {"name": "s", "study": "s.yaml", "model": "unsecured", "trials": 1, "tuples": 3}
    space = {"models.unsecured.epochs": {"choice": (1, 2)}}
    spec = TuneSpec.model_validate(search | {"attack": "fgsm", "space": space})
    recommender = load.from_catalog(frozen(random_network()), catalog, "cpu")
    trial._success(spec, study(), None, catalog, recommender)
    assert seen == [(1, *EXACT[1:])]
    assert settings() == SHORTCUTS


def test_a_forecast_that_fails_leaves_what_was_set(monkeypatch):
    seen = []

    def fails(*arguments):
        seen.append(settings())
        raise torch.OutOfMemoryError

    monkeypatch.setattr(forecast, "evaluate", fails)
    with pytest.raises(torch.OutOfMemoryError):
        forecast.measure(random_network(), study(), Placement(1, 0.0, 1))
    assert seen == [(1, *EXACT[1:])]
    assert settings() == SHORTCUTS
