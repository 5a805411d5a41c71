"""A run directory, read for a report: what the study names, what is there, what is missing."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from advrec.errors import ConfigError
from advrec.evaluation import audience_checks, checks, effort, lists, probes
from advrec.evaluation.rates import headline_rank, success_table
from advrec.evaluation.verdicts import Check
from advrec.reports import gaps
from advrec.reports.tables import published
from advrec.run import cells, identity, own_columns, schema, strangers
from advrec.run.directory import Run
from advrec.run.distinct import DISTINCT
from advrec.run.files import read_json
from advrec.run.tables import read_outcomes, read_table, refuse_copies
from advrec.spec import budgets, chains
from advrec.spec.attacks import AttackSpec
from advrec.spec.study import Study

Metrics = dict[str, float | None]
State = Literal["done", "set aside", "missing"]


@dataclass(frozen=True, eq=False)
class Results:
    """Everything a report shows: models, attacks and budgets that study.yaml names, no others."""

    run: Run
    study: Study
    """Its models are those that are compared."""
    whole: Study
    """With hybrids, and with models that are left out of the comparison."""
    outcomes: pd.DataFrame
    """schema.outcomes of the study's deliveries, DISTINCT and MINIMAL, with model and attack before
    them and defect (see schema.IMPORTED).
    """
    probes: pd.DataFrame
    """Measurements of the checks: schema.OUTCOMES with the same two columns before them."""
    tuples: int
    metrics: dict[str, Metrics]
    """metrics.json by model; a model that has none is absent."""
    index: dict[str, dict[str, Any]]
    """index.json by model; a model that has none is absent."""
    health: dict[str, dict[str, Any]]
    """health.json by model; a model that has none is absent."""
    lists: dict[str, pd.DataFrame]
    """schema.LISTS by model, compared or not; a model that has none is absent."""
    history: dict[str, pd.DataFrame]
    """own_columns.history by model, compared or not; one that was not trained here is absent."""
    optimizer_steps: dict[str, int]
    """Optimizer steps by model, its start included; a model is absent where that is not known."""
    preparation: dict[str, Any]
    provenance: dict[str, Any]
    set_aside: dict[str, str]
    """Reason by key, of blocks and of images."""

    @property
    def attacks(self) -> list[str]:
        """Those of tuples."""
        return [attack.name for attack in self.whole.on_tuples]

    def attack(self, name: str) -> AttackSpec:
        return next(attack for attack in self.study.evaluation.attacks if attack.name == name)

    @property
    def deliveries(self) -> tuple[str, ...]:
        """Other than float."""
        return self.study.evaluation.round_trips

    @property
    def norms(self) -> list[str]:
        """Columns with the largest change of each image of a row, also those for deliveries."""
        return ["linf", *(schema.suffixed("linf", each) for each in self.study.evaluation.seen)]

    @property
    def rank(self) -> int:
        """The rank of the headline."""
        return headline_rank(self.study.evaluation.ranks)

    @cached_property
    def epsilon(self) -> float:
        """The budget of the headline: the largest at which every attacked model was attacked.

        Without one it is the study's largest.
        """
        pairs = self.outcomes[["model", "epsilon"]].drop_duplicates()
        common = pairs["epsilon"].value_counts()
        everywhere = set(common.index[common == pairs["model"].nunique()])
        every = self.study.evaluation.epsilons
        return max([epsilon for epsilon in every if epsilon in everywhere] or every)

    @property
    def in_levels(self) -> bool:
        return budgets.in_levels(self.study.evaluation.epsilons)

    def shown(self, epsilon: float) -> str:
        """A budget as the study wrote it."""
        return budgets.shown(epsilon, self.study.evaluation.epsilons)

    @cached_property
    def training_seconds(self) -> dict[str, float]:
        """Seconds of all epochs by the clock, by model; absent where it was not trained here."""
        return {model: float(epochs["seconds"].sum()) for model, epochs in self.history.items()}

    @property
    def baseline(self) -> str:
        """The model that defenses are compared with: the first without one, or else the first."""
        models = self.study.models
        plain = [name for name, spec in models.items() if spec.defense == "none"]
        bare = [name for name in plain if not chains.ingests(self.whole.models, name)]
        return next(iter([*bare, *plain, *models]))

    def base(self, model: str) -> str | None:
        """The model that a model is compared with: the original of its defenses without labels, or
        else the baseline. None for a joined model whose parts have different originals.
        """
        if not chains.has_label_free(self.whole.models, model):
            return self.baseline
        first, *others = chains.originals(self.whole.models, model)
        return None if others else first

    @property
    def trained_longer(self) -> list[str]:
        """Defended models that had more optimizer steps than the undefended baseline."""
        return effort.trained_longer(self.study, self.optimizer_steps, self.baseline)

    @cached_property
    def blocks(self) -> pd.DataFrame:
        """One row a block of tuples or of promoted articles: gaps.COLUMNS."""
        return gaps.blocks(self.run, self.whole, self.tuples, self.set_aside)

    @cached_property
    def success(self) -> pd.DataFrame:
        """One row a (model, attack, epsilon, rank), in the study's order.

        Its columns are those of rates.success_table, and published_n and published_percent where
        Normann (2020) has published the same cell.
        """
        counted = success_table(self.outcomes, self.study.evaluation.ranks)
        defenses = {model: spec.defense for model, spec in self.study.models.items()}
        meant = {
            attack.name: attack.attack
            for attack in self.study.evaluation.attacks
            if not attack.sources
        }
        return self.in_study_order(published.beside(counted, defenses, meant), ["epsilon", "rank"])

    @cached_property
    def labels(self) -> pd.DataFrame:
        """Category and textures of every article, as sets, and its split."""
        catalog = (
            read_table(self.run.catalog, schema.CATALOG)
            .select(["category", "textures", "split"])
            .to_pandas()
        )
        return pd.DataFrame(
            {
                "category": [frozenset(filter(None, [name])) for name in catalog["category"]],
                "texture": [frozenset(textures) for textures in catalog["textures"]],
                "split": catalog["split"],
            }
        )

    @cached_property
    def recommendations(self) -> pd.DataFrame:
        """One row a (model, quantity): quality of the lists of ten.

        Each row has n articles and the mean share of their ten nearest, in percent with interval.
        The share has the article's category, one of its textures, or a place in the list of the
        model that it is compared with (overlap).
        """
        rows = []
        for model, own in self.lists.items():
            if model not in self.study.models:
                continue
            shares = {
                f"same_{label}": lists.agreement(own, list(self.labels[label]))
                for label in ("category", "texture")
            }
            base = self.base(model)
            if base is not None and base in self.lists and model != base:
                shares["overlap"] = lists.overlap(own, self.lists[base])
            rows += [
                (
                    model,
                    quantity,
                    len(share),
                    *(100.0 * value for value in lists.mean_interval(share)),
                )
                for quantity, share in shares.items()
                if len(share)
            ]
        return pd.DataFrame(
            rows, columns=["model", "quantity", "n", "percent", "low_percent", "high_percent"]
        )

    @cached_property
    def checks(self) -> list[tuple[str, Check]]:
        """Each model with each check of it, then those before audiences; none where off."""
        if not self.study.evaluation.checks:
            return []
        needed = self.outcomes[
            ["model", "attack", "tuple_id", "epsilon", "adversarial_rank", *self.norms]
        ]
        on_models = [
            (model, check)
            for model in self.study.models
            for check in checks.judge(
                self.study, model, self.rank, self.probes, needed, self.health.get(model, {})
            )
        ]
        return on_models + audience_checks.examine(self.run, self.whole)

    @cached_property
    def missing_check_blocks(self) -> int:
        """Blocks that the checks need and that have no file, for whatever reason."""
        return sum(
            1
            for cell in probes.cells(self.whole)
            for _ in cells.missing_blocks(self.run, self.study, cell, self.tuples)
        )

    def in_model_order(self, frame: pd.DataFrame, then: list[str]) -> pd.DataFrame:
        """Rows sorted by model as the study lists them, then by other columns."""
        return self.in_study_order(frame.assign(attack=""), then).drop(columns="attack")

    def in_study_order(self, frame: pd.DataFrame, then: list[str]) -> pd.DataFrame:
        """Rows sorted by model and attack as the study lists them, then by other columns."""
        models = {name: place for place, name in enumerate(self.study.models)}
        attacks = {name: place for place, name in enumerate(self.attacks)}
        keyed = frame.assign(
            _model=frame["model"].map(models), _attack=frame["attack"].map(attacks)
        )
        ordered = keyed.sort_values(["_model", "_attack", *then], kind="stable")
        return ordered.drop(columns=["_model", "_attack"]).reset_index(drop=True)

    def count(self, state: State) -> int:
        """Blocks in a state."""
        return int((self.blocks["state"] == state).sum())


def read(run: Run) -> Results:
    """Read a run directory, finished or not.

    Raises:
        ConfigError: it holds no resolved study, or no tuples.
        AdvrecError: it holds a stranger, or rows twice.
    """
    strangers.refuse(run)
    whole = identity.recorded_study(run)
    study = whole.compared
    if not run.tuples.exists():
        raise ConfigError(f"{run.directory} holds no tuples yet; run `advrec evaluate` first")
    tuples = read_table(run.tuples, schema.TUPLES).num_rows
    history = _tables(run.history, whole, own_columns.history)
    preparation = read_json(run.preparation, default={})
    return Results(
        run=run,
        study=study,
        whole=whole,
        outcomes=_outcomes(run, study, tuples),
        probes=_probes(run, study),
        tuples=tuples,
        metrics=_of_models(run, study, "metrics.json"),
        index=_of_models(run, study, "index.json"),
        health=_of_models(run, study, "health.json"),
        lists=_tables(run.lists, whole, lambda spec: schema.LISTS),
        history=history,
        optimizer_steps=effort.optimizer_steps(
            whole,
            {model: len(epochs) for model, epochs in history.items()},
            preparation["splits"]["train"],
        )
        if "splits" in preparation
        else {},
        preparation=preparation,
        provenance=read_json(run.provenance, default={}),
        set_aside=run.set_aside(),
    )


def _outcomes(run: Run, study: Study, tuples: int) -> pd.DataFrame:
    evaluation = study.evaluation
    # Null where it is not known: only an import knows of defects, and so on.
    columns = pa.schema(
        [
            *schema.outcomes(evaluation.round_trips, evaluation.seen),
            *DISTINCT,
            *own_columns.MINIMAL,
            *own_columns.AUTO,
            pa.field("defect", pa.bool_()),
        ]
    )
    rows: pd.DataFrame = read_outcomes(run.attacks, columns).to_pandas()
    named = (
        rows["model"].isin(list(study.models))
        & rows["attack"].isin([attack.name for attack in evaluation.attacks])
        & rows["epsilon"].isin(list(evaluation.epsilons))
        & (rows["tuple_id"] < tuples)
    )
    rows = rows.loc[named].reset_index(drop=True)
    refuse_copies(rows, run.attacks)
    # Rows of an earlier version say neither.
    return rows.assign(
        winner=rows["winner"].fillna(rows["attack"]),
        inherited=rows["inherited"].eq(True),
        projected=rows["projected"].eq(True),
        defect=rows["defect"].eq(True),
    )


def _probes(run: Run, study: Study) -> pd.DataFrame:
    """Rows of the checks that the study would make today.

    An earlier study may have left others beside them.
    """
    rows: pd.DataFrame = read_outcomes(run.checks).to_pandas()
    refuse_copies(rows, run.checks)
    wanted = {
        (cell.model, cell.attack.name, epsilon)
        for cell in probes.cells(study)
        if cell.part == "checks"
        for epsilon in cell.epsilons
    }
    keys = pd.MultiIndex.from_frame(rows[["model", "attack", "epsilon"]])
    return rows[keys.isin(wanted) & (rows["tuple_id"] < study.evaluation.checks)].reset_index(
        drop=True
    )


def _tables(
    path: Callable[[str], Path], study: Study, columns: Callable[[Any], pa.Schema]
) -> dict[str, pd.DataFrame]:
    return {
        model: read_table(path(model), columns(spec)).to_pandas()
        for model, spec in study.models.items()
        if path(model).exists()
    }


def _of_models(run: Run, study: Study, name: str) -> dict[str, dict[str, Any]]:
    paths = {model: run.model(model) / name for model in study.models}
    return {model: read_json(path) for model, path in paths.items() if path.exists()}
