"""`advrec attack`: one tuple attacked as the evaluation would, with its pictures."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from advrec.attacks import names
from advrec.catalog.dataset import Catalog
from advrec.errors import ConfigError
from advrec.evaluation.block import Block, Outcomes, block_of, method_of
from advrec.evaluation.harness import evaluate_block
from advrec.model.arithmetic import exact_arithmetic
from advrec.reports.pictures import images as pictures
from advrec.run import identity, schema
from advrec.run.cells import Cell
from advrec.run.directory import CHAINS, LEVELS, Run, meant
from advrec.run.tables import read_table
from advrec.spec import budgets
from advrec.spec.attacks import AttackSpec
from advrec.spec.base import FLOAT
from advrec.spec.study import Study
from advrec.tools.catalog import open_catalog
from advrec.tools.recommend import open_model


def attack_one(
    run: Run,
    study: Study,
    model: str,
    attack: str,
    epsilon: float | str,
    target_name: str,
    article_name: str,
) -> Path:
    """Attack one tuple as the evaluation would, print the outcome and draw it: the image as it was
    computed, and those made for deliveries.

    Args:
        attack: the name of an entry of the study, or of any attack.
        epsilon: budget, 0..1, or a text as '2/255'.

    Returns:
        The first picture's path.

    Raises:
        ConfigError: there is no such model, attack or article, or the budget is none.
        AdvrecError: the run is not so far yet.
    """
    catalog = open_catalog(run)
    study = identity.continued(run, study)
    if isinstance(epsilon, str):
        epsilon = _budget(epsilon)
    target, article = catalog.find(target_name), catalog.find(article_name)
    through = _entry(study, attack).made_for
    outcomes = outcomes_of(run, study, catalog, model, attack, epsilon, target, article)
    row, made = outcomes.rows.to_pylist()[-1], (FLOAT, *through)
    clean, wanted = catalog.pixels([article, target])
    paths = []
    for delivery, example in zip(made, outcomes.examples.to_pylist()[-len(made) :], strict=True):
        adversarial = np.frombuffer(example["pixels"], dtype="<f4").reshape(
            example["height"], example["width"], 3
        )
        lines = _lines(
            row, f"{attack} on {model}, budget epsilon {budgets.shown(epsilon)}", delivery
        )
        if delivery == FLOAT:
            for unseen in (each for each in study.evaluation.round_trips if each not in through):
                distance, rank = schema.delivered(unseen)
                lines.append(f"as {unseen}, blind: distance {row[distance]:.4f}, rank {row[rank]}")
        suffix = "" if delivery == FLOAT else f"-{delivery}"
        name = f"attack-{model}-{attack}-{epsilon:g}-{target}-{article}{suffix}.png"
        paths.append(run.directory / "pictures" / name)
        pictures.attack_picture(paths[-1], clean, adversarial, wanted, lines)
        print("\n".join(lines))
    print("\n".join(map(str, paths)))
    return paths[0]


def _budget(text: str) -> float:
    try:
        return budgets.parse(text)
    except ValueError as error:
        raise ConfigError(f"--epsilon: {error}") from None


def _lines(row: Mapping[str, Any], what: str, delivery: str) -> list[str]:
    """Captions of the image that was made for a delivery, which a row of outcomes is about."""
    distance, rank, linf = "adversarial_distance", "adversarial_rank", "linf"
    if delivery != FLOAT:
        (distance, rank), linf = schema.delivered(delivery), schema.suffixed(linf, delivery)
        what = f"{what}, made for {delivery} and ranked after it"
    return pictures.attack_lines(
        (row["clean_distance"], row[distance]),
        (row["clean_rank"], row[rank]),
        f"{what}, largest change of a pixel {row[linf]:.4f}",
    )


def outcomes_of(
    run: Run,
    study: Study,
    catalog: Catalog,
    model: str,
    attack: str,
    epsilon: float,
    target: int,
    article: int,
) -> Outcomes:
    """The row of one tuple, by the very harness of the evaluation.

    Budgets of the study on which the row depends are attacked too, as there: the smaller ones where
    an entry is nested, all by an attack that meets all at once. Where the tuple is one of the run,
    it has the same random stream as there.

    Raises:
        ConfigError: there is no such model or attack, the articles are one, or the budget is none.
    """
    if not 0.0 <= epsilon <= 1.0:
        raise ConfigError(f"--epsilon is {epsilon}: a budget lies between 0 and 1")
    if target == article:
        raise ConfigError("--target and --article are the same article; name two")
    entry = _entry(study, attack)
    method = method_of(entry)
    budgets = {
        each
        for each in study.evaluation.epsilons
        if entry.all_budgets or (entry.nested and each < epsilon)
    }
    epsilons = tuple(sorted({*budgets, epsilon}))
    cell = Cell("attacks", model, entry, epsilons, study.evaluation.round_trips)
    block = block_of(study, cell, _tuple(run, study, target, article), catalog)
    recorded = run.identities().get(cell.key, {})
    if recorded.get("delivery") == list(cell.deliveries):
        protocol = meant(recorded)["protocol"]
        block = dataclasses.replace(block, levels=protocol >= LEVELS, chains=protocol >= CHAINS)
    with exact_arithmetic(study.resources.cpus_per_actor):
        recommender = open_model(run, study, model, catalog)
        others = entry.sources if entry.sources != (model,) else ()
        sources = [open_model(run, study, source, catalog) for source in others]
        outcomes = evaluate_block(recommender, method, _with_examples(block), *sources)
    wanted = pc.field("epsilon") == epsilon
    return Outcomes(outcomes.rows.filter(wanted), outcomes.examples.filter(wanted))


def _entry(study: Study, name: str) -> AttackSpec:
    """The study's entry of that name, else the attack of that name as a study would mean it."""
    for entry in study.evaluation.attacks:
        if entry.name == name:
            return entry
    names.check(name)
    return AttackSpec.named(name, study.passed)


def _tuple(run: Run, study: Study, target: int, article: int) -> pa.Table:
    """The pair as a row of schema.TUPLES: the run's own where there is one, else number 0."""
    if run.tuples.exists():
        tuples = read_table(run.tuples, schema.TUPLES)
        targets, articles = (tuples[name].to_numpy() for name in ("target_id", "attack_id"))
        places = np.flatnonzero((targets == target) & (articles == article))
        if len(places):
            return tuples.slice(places[0], 1)
    columns = {"tuple_id": [0], "target_id": [target], "attack_id": [article]}
    return schema.table(schema.TUPLES, columns | {"split": [study.evaluation.split]})


def _with_examples(block: Block) -> Block:
    """The same block, whose images are all kept."""
    return dataclasses.replace(block, examples=int(block.tuple_ids.max()) + 1)
