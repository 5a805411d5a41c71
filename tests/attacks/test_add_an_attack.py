"""An attack is added as ARCHITECTURE.md says: a frozen dataclass, and its name in two places. All
else follows, from the study file to the rows.
"""

import dataclasses

import pyarrow.dataset as ds
import pytest

from advrec.attacks import names, registry
from advrec.attacks.objective import evaluate
from advrec.attacks.result import spent
from tests.commands import advrec
from tests.runs import ready_run, write_study


@dataclasses.dataclass(frozen=True)
class Shorter:
    """One signed step, of the budget divided by the name's number."""

    divisor: int

    def __call__(self, problem):
        gradient = evaluate(problem.objective, problem.images).gradient
        radius = problem.epsilon.to(problem.images).view(-1, 1, 1, 1)
        images = problem.images - radius / self.divisor * gradient.sign()
        return spent(problem.ball.project(images), gradient_steps=1)


def test_an_attack_is_added_by_its_class_and_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(names, "FAMILIES", (*names.FAMILIES, "shorter"))
    monkeypatch.setitem(registry.FAMILIES, "shorter", lambda divisor: Shorter(divisor))
    run = ready_run(tmp_path / "run")
    evaluation = {"attacks": ["fgsm", "shorter-1", "shorter-2"], "epsilons": [0.05]}
    study = write_study(tmp_path / "s.yaml", run, evaluation=evaluation, resources={"actors": 0})
    done = advrec("evaluate", study, "--out", run.directory, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = ds.dataset(run.attacks, partitioning="hive").to_table().to_pandas()
    by_attack = dict(iter(rows.sort_values("tuple_id").groupby("attack")))
    same = ["tuple_id", "adversarial_rank", "adversarial_distance", "linf"]
    # Divided by one it is FGSM.
    assert by_attack["shorter-1"][same].to_numpy() == pytest.approx(
        by_attack["fgsm"][same].to_numpy()
    )
    assert by_attack["shorter-2"]["linf"].to_numpy() == pytest.approx(0.025, abs=1e-6)
    assert set(by_attack["shorter-2"]["gradient_steps"]) == {1}
