"""Optimizer steps against a training's own count, and studies that are unfair and fair."""

from pathlib import Path

import pytest

from advrec.evaluation import effort
from advrec.spec import study as study_file
from tests.conftest import study
from tests.runs import most_steps

SHIPPED = [
    Path(__file__).parents[2] / name for name in ("advrec/demo.yaml", "jobs/studies/defenses.yaml")
]


def models(**entries):
    return study(models=entries)


def test_steps_are_counted_along_the_chain_of_starts():
    three = models(
        start={"defense": "none", "batch": 64},
        at={"defense": "at", "batch": 32, "init": "start"},
        free={"defense": "free", "replays": 3, "batch": 32, "init": "at"},
        shop={"model": "shop:encoder"},
        lost={"defense": "none", "init": "free"},
        after={"defense": "none", "init": "lost"},
    )
    epochs = {"start": 30, "at": 14, "free": 2, "after": 5}
    # of 503 articles 7 whole batches of 64, and 15 of 32
    start, at = 30 * 7, 30 * 7 + 14 * 15
    counted = effort.optimizer_steps(three, epochs, 503)
    assert counted == {"start": start, "at": at, "free": at + 2 * 15 * 3}


@pytest.mark.parametrize(
    ("steps", "longer"),
    [
        ({"unsecured": 10, "at": 11, "cat": 10}, ["at"]),
        ({"unsecured": 11, "at": 11, "cat": 5}, []),
        ({"unsecured": 11, "cat": 12}, ["cat"]),  # of at it is not known
        ({"at": 11, "cat": 12}, []),  # nor of what they are compared with
    ],
)
def test_defended_models_are_trained_longer_where_they_had_more_steps(steps, longer):
    compared = models(
        start={"defense": "at", "compared": False},
        unsecured={"defense": "none"},
        at={"defense": "at"},
        cat={"defense": "cat"},
    )
    assert effort.trained_longer(compared, steps | {"start": 99}, "unsecured") == longer
    assert effort.trained_longer(compared, steps, "at") == []  # which is itself defended


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_studies_that_ship_compare_fairly(path):
    """Also where a curriculum takes as long as it may."""
    shipped = study_file.load(path)
    for articles in (503, 480, 560):
        steps = most_steps(shipped, articles)
        assert steps.keys() == shipped.models.keys()
        assert effort.trained_longer(shipped, steps, "unsecured") == []
