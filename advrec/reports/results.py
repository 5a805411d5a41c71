"""A run directory, read for a report: what the study names, what is there, what is missing."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from advrec import schema
from advrec.config import Study, parse, read_yaml
from advrec.errors import ConfigError
from advrec.evaluation.rates import success_table
from advrec.store import Run, read_json, read_outcomes, read_table

Metrics = dict[str, float | None]
State = Literal["done", "set aside", "missing"]


@dataclass(frozen=True, eq=False)
class Results:
    """Everything a report shows. Only models, attacks and budgets that study.yaml names are in it."""

    run: Run
    study: Study
    outcomes: pd.DataFrame
    """schema.OUTCOMES with the columns model and attack before them."""
    tuples: int
    metrics: dict[str, Metrics]
    """metrics.json by model; a model that has none is absent."""
    index: dict[str, dict[str, Any]]
    """index.json by model; a model that has none is absent."""
    preparation: dict[str, Any]
    provenance: dict[str, Any]
    set_aside: dict[str, str]
    """Reason by key, of blocks and of images."""

    @property
    def attacks(self) -> list[str]:
        return [attack.name for attack in self.study.evaluation.attacks]

    @property
    def blocks_per_cell(self) -> int:
        return -(-self.tuples // self.study.evaluation.block)

    @property
    def rank(self) -> int:
        """The rank of the headline: of those in the study the nearest to 3, the smaller of two equally near."""
        return min(self.study.evaluation.ranks, key=lambda rank: (abs(rank - 3), rank))

    @property
    def largest_epsilon(self) -> float:
        return max(self.study.evaluation.epsilons)

    @property
    def baseline(self) -> str:
        """The model that defenses are compared with: the first without a defense, or else the first."""
        models = self.study.models
        return next((name for name, spec in models.items() if spec.defense == "none"), next(iter(models)))

    @cached_property
    def blocks(self) -> pd.DataFrame:
        """One row a block: model, attack, block, tuples (in it, by the study) and state."""
        size = self.study.evaluation.block
        rows = [
            (model, attack, block, min(size, self.tuples - block * size), self._state(model, attack, block))
            for model in self.study.models
            for attack in self.attacks
            for block in range(self.blocks_per_cell)
        ]
        return pd.DataFrame(rows, columns=["model", "attack", "block", "tuples", "state"])

    @cached_property
    def success(self) -> pd.DataFrame:
        """rates.success_table at the study's ranks, in the study's order."""
        counted = success_table(self.outcomes, self.study.evaluation.ranks)
        return self.in_study_order(counted, ["epsilon", "rank"])

    def in_study_order(self, frame: pd.DataFrame, then: list[str]) -> pd.DataFrame:
        """Rows sorted by model and attack as the study lists them, then by other columns."""
        models = {name: place for place, name in enumerate(self.study.models)}
        attacks = {name: place for place, name in enumerate(self.attacks)}
        keyed = frame.assign(_model=frame["model"].map(models), _attack=frame["attack"].map(attacks))
        ordered = keyed.sort_values(["_model", "_attack", *then], kind="stable")
        return ordered.drop(columns=["_model", "_attack"]).reset_index(drop=True)

    def count(self, state: State) -> int:
        """Blocks in a state."""
        return int((self.blocks["state"] == state).sum())

    def _state(self, model: str, attack: str, block: int) -> State:
        if self.run.block(model, attack, block).exists():
            return "done"
        return "set aside" if f"attacks/{model}/{attack}/{block}" in self.set_aside else "missing"


def read(run: Run) -> Results:
    """Read a run directory, finished or not.

    Raises:
        ConfigError: it holds no resolved study, or no tuples.
    """
    study = parse(read_yaml(run.study), str(run.study))
    if not run.tuples.exists():
        raise ConfigError(f"{run.directory} holds no tuples yet; run `advrec evaluate` first")
    tuples = read_table(run.tuples, schema.TUPLES).num_rows
    return Results(
        run=run,
        study=study,
        outcomes=_outcomes(run, study, tuples),
        tuples=tuples,
        metrics=_of_models(run, study, "metrics.json"),
        index=_of_models(run, study, "index.json"),
        preparation=read_json(run.preparation, default={}),
        provenance=read_json(run.provenance, default={}),
        set_aside=run.set_aside(),
    )


def _outcomes(run: Run, study: Study, tuples: int) -> pd.DataFrame:
    evaluation = study.evaluation
    if not any(run.attacks.glob("*/*/block-*.parquet")):
        empty: pd.DataFrame = schema.OUTCOMES.empty_table().to_pandas()
        return empty.assign(model=pd.Series(dtype="str"), attack=pd.Series(dtype="str"))
    rows: pd.DataFrame = read_outcomes(run).to_pandas()
    named = (
        rows["model"].isin(list(study.models))
        & rows["attack"].isin([attack.name for attack in evaluation.attacks])
        & rows["epsilon"].isin(list(evaluation.epsilons))
        & (rows["tuple_id"] < tuples)
    )
    return rows.loc[named].reset_index(drop=True)


def _of_models(run: Run, study: Study, name: str) -> dict[str, dict[str, Any]]:
    paths = {model: run.model(model) / name for model in study.models}
    return {model: read_json(path) for model, path in paths.items() if path.exists()}
