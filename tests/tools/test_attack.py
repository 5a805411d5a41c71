"""`advrec attack` gives the row that the evaluation gives, for every kind of entry."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from advrec.attacks import registry
from advrec.catalog.dataset import Catalog
from advrec.evaluation import tuples
from advrec.evaluation.block import Block, block_of, method_of
from advrec.evaluation.harness import evaluate_block
from advrec.model import checkpoint
from advrec.recommenders import load
from advrec.run.cells import cells
from advrec.run.directory import Run
from advrec.run.files import write_table
from advrec.tools.attack import outcomes_of
from tests.commands import advrec
from tests.conftest import random_network, study
from tests.runs import ready_run, write_study

ENTRIES = [
    "pgd-2",
    "auto",
    {"name": "transfer", "attack": "pgd-3", "from": "other"},
    {"name": "nested", "attack": "apgd-4", "nested": True, "stop": "rank-1"},
    {"name": "restarted", "attack": "apgd-3", "restarts": 1, "stop": "converged"},
    {"name": "all", "attack": "apgd-3", "from": "other", "nested": True, "stop": "rank-1"},
]
NAMES = [entry if isinstance(entry, str) else entry["name"] for entry in ENTRIES]
EVALUATION = {"tuples": 6, "block": 6, "epsilons": [0.01, 0.02, 0.05], "delivery": ["png"]}


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    run = ready_run(tmp_path_factory.mktemp("attack"))
    catalog = Catalog(run)
    sizes = len(catalog.categories), len(catalog.textures)
    checkpoint.save(run.weights("other"), random_network(*sizes, seed=1))
    spec = study(
        models={"unsecured": {"defense": "none"}, "other": {"defense": "none"}},
        evaluation=EVALUATION | {"attacks": ENTRIES},
    )
    write_table(run.tuples, tuples.sample(catalog, "test", 6, spec.seed))
    return run, spec, catalog


def evaluated(setting, name, places) -> dict:
    """The evaluation's rows of some tuples, by tuple and budget."""
    run, spec, catalog = setting
    cell = next(c for c in cells(spec) if (c.model, c.attack.name) == ("unsecured", name))
    rows = tuples.sample(catalog, "test", 6, spec.seed).slice(*places)
    sources = [load.from_run(run, source, catalog) for source in cell.attack.sources]
    outcomes = evaluate_block(
        load.from_run(run, "unsecured", catalog),
        method_of(cell.attack),
        block_of(spec, cell, rows, catalog),
        *sources,
    )
    return {(r["tuple_id"], r["epsilon"]): r for r in outcomes.rows.to_pylist()}


def attacked(setting, name, epsilon, place) -> dict:
    run, spec, catalog = setting
    pair = tuples.sample(catalog, "test", 6, spec.seed).slice(place, 1).to_pylist()[0]
    outcomes = outcomes_of(
        run, spec, catalog, "unsecured", name, epsilon, pair["target_id"], pair["attack_id"]
    )
    return outcomes.rows.to_pylist()[-1]


@pytest.mark.parametrize("name", NAMES)
def test_the_row_is_the_evaluations(setting, name):
    alone = evaluated(setting, name, (4, 1))
    for epsilon in (0.01, 0.05):
        row = attacked(setting, name, epsilon, 4)
        assert row | {"seconds": 0} == alone[4, epsilon] | {"seconds": 0}


@pytest.mark.parametrize("name", ["transfer", "nested"])
def test_in_a_block_of_many_it_is_the_same_row_but_for_rounding(setting, name):
    row, block = attacked(setting, name, 0.05, 4), evaluated(setting, name, (0, 6))
    for column in ("clean_rank", "adversarial_rank", "adversarial_rank_png", "linf"):
        assert row[column] == pytest.approx(block[4, 0.05][column], abs=1)
    for column in ("clean_distance", "adversarial_distance", "adversarial_distance_png"):
        assert row[column] == pytest.approx(block[4, 0.05][column], abs=1e-3)


def test_a_transfer_is_not_made_on_the_attacked_model(setting):
    transferred, direct = (
        attacked(setting, "transfer", 0.05, 4),
        attacked(setting, "pgd-3", 0.05, 4),
    )
    assert transferred["adversarial_distance"] != direct["adversarial_distance"]


def test_a_pair_that_is_no_tuple_of_the_run_is_number_0(setting):
    run, spec, catalog = setting
    target, article = catalog.ids_of("train")[:2].tolist()
    rows = outcomes_of(run, spec, catalog, "unsecured", "noise", 0.05, target, article).rows
    assert rows["tuple_id"].to_pylist() == [0]
    block = Block(
        tuple_ids=rows["tuple_id"].to_numpy(),
        target_ids=rows["target_id"].to_numpy(),
        attack_ids=rows["attack_id"].to_numpy(),
        pixels=catalog.pixels([article]),
        epsilons=(0.05,),
        batch=1,
        examples=0,
        label="noise",
        seed=spec.seed,
        deliveries=("png",),
    )
    expected = evaluate_block(
        load.from_run(run, "unsecured", catalog), registry.by_name("noise"), block
    ).rows
    ignored = ["seconds", "batch"]
    assert rows.drop(ignored).equals(expected.drop(ignored))


@pytest.mark.parametrize("delivery", [[], ["webp-80"], ["jpeg-90"]])
def test_other_deliveries_than_the_runs_are_seen_as_in_a_run_of_their_own(
    ready, tmp_path, delivery
):
    """What a run did of its deliveries, blind or not, says nothing of others."""
    evaluation = EVALUATION | {"attacks": ["apgd-2"], "examples": 0}
    write_study(tmp_path / "s.yaml", ready, evaluation=evaluation)
    shutil.copytree(ready.directory, tmp_path / "run")
    done = advrec("evaluate", "s.yaml", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    pair = pq.read_table(tmp_path / "run" / "tuples.parquet").to_pylist()[0]
    names = Catalog(Run(tmp_path / "run")).names
    words = ["--model", "unsecured", "--attack", "apgd-2", "--epsilon", 0.05]
    words += ["--target", names[pair["target_id"]], "--article", names[pair["attack_id"]]]
    there = ["--out", "run", "--set", f"evaluation.delivery={json.dumps(['float', *delivery])}"]
    made = advrec("attack", "s.yaml", *words, *there, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert made.stdout.count(".png") == 1 + len(delivery)
    assert all(f"made for {each} and ranked after it" in made.stdout for each in delivery)
    assert "blind" not in made.stdout
