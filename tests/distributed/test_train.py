"""Models that are trained one after another by workers which start once. Ray is played by this
process; tests/stages/test_train.py has the real one.

Not by a thread of it: dropout draws from the stream that a thread shares with the driver, which
builds networks meanwhile.
"""

from concurrent.futures import Future

import pytest
from safetensors.torch import load_file

from advrec.attacks.gradient import PGD
from advrec.distributed import session, train, workers
from advrec.errors import AdvrecError
from advrec.run.directory import Run
from advrec.spec import study as study_file
from advrec.training import quality
from tests.conftest import draw_catalog
from tests.runs import write_study

BASE = {"defense": "none", "epochs": 1, "batch": 16, "width": 0.25}
MODELS = {"base": BASE, "next": BASE | {"init": "base"}}
NAMES = dict.fromkeys(MODELS, "by-this-name")


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "run")
    with run.lock():
        draw_catalog(run)
    return run


def a_study(run, resources):
    path = run.directory.parent / "study.yaml"
    write_study(path, run, evaluation={}, models=MODELS, resources=resources)
    return study_file.load(path)


@pytest.fixture
def crews(monkeypatch):
    """The models that each crew of workers was given; `dies` names what kills the first crew."""
    given, dies = [], []

    def crew(arguments, number, *, gpu):
        assert (number, gpu) == (1, False)
        given.append(list(arguments["storages"]))
        ended = Future()

        try:
            if dies and len(given) == 1:
                whole = list(arguments["storages"].items())
                place = [model for model, _ in whole].index(dies[0])
                train.train_alone(arguments | {"storages": dict(whole[:place])})
                raise AdvrecError("a node is gone")
            train.train_alone(arguments)
        except AdvrecError as error:
            ended.set_exception(error)
        else:
            ended.set_result(None)
        return ended

    monkeypatch.setattr(quality, "CONVERGED", (PGD(steps=1),))  # accuracies do not matter here
    monkeypatch.setattr(workers, "train", crew)
    monkeypatch.setattr(session, "nodes", lambda: [{"CPU": 2.0}])
    return given, dies


def test_one_crew_trains_all_models_as_each_alone_would(run, crews, tmp_path):
    trained = []
    train.train_models(run, a_study(run, {"actors": 2}), NAMES, trained.append, grows=False)
    assert crews[0] == [list(MODELS)]
    assert trained == list(MODELS)
    together = {model: load_file(run.weights(model)) for model in MODELS}
    for model in MODELS:
        assert not run.training(model).exists()
        run.weights(model).unlink()
    train.train_models(run, a_study(run, {"training_workers": 0}), NAMES, grows=False)
    for model in MODELS:
        alone = load_file(run.weights(model))
        assert all(value.equal(alone[name]) for name, value in together[model].items()), model


def test_a_crew_that_dies_at_a_later_model_is_followed_by_another(run, crews):
    given, dies = crews
    dies.append("next")
    train.train_models(run, a_study(run, {"actors": 2}), NAMES, grows=False)
    assert given == [list(MODELS), ["next"]]
    assert all(run.weights(model).exists() for model in MODELS)


def test_a_crew_that_dies_at_its_first_model_has_failed(run, crews):
    given, dies = crews
    dies.append("base")
    with pytest.raises(AdvrecError, match=r"^training base failed: a node is gone$"):
        train.train_models(run, a_study(run, {"actors": 2}), NAMES, grows=False)
    assert given == [list(MODELS)]
    assert not run.weights("base").exists()
