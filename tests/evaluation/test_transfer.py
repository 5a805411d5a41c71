"""Transfer of several sources and its keys, in a block and in a run."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

import advrec
from advrec.attacks import registry
from advrec.errors import ConfigError
from advrec.evaluation.block import Block
from advrec.evaluation.harness import evaluate_block
from advrec.model import checkpoint
from advrec.recommenders.recommender import Recommender
from advrec.run.directory import Run
from tests import commands
from tests.conftest import STUDY, random_network, study
from tests.runs import rows as rows_of_run
from tests.runs import write_study

SIDE, ARTICLES = 16, 40


@pytest.fixture(scope="module")
def setting():
    """Three shops with the same 40 random images, each embedded by a small network of its own."""
    generator = np.random.default_rng(3)
    pixels = generator.integers(0, 256, (ARTICLES, SIDE, SIDE, 3), dtype=np.uint8)
    ids = np.arange(12, dtype=np.int32)
    block = Block(
        tuple_ids=ids,
        target_ids=ids,
        attack_ids=ids + 12,
        pixels=pixels[12:24],
        epsilons=(0.05,),
        batch=12,
        examples=0,
        label="named",
        seed=7,
    )
    shops = []
    for seed in range(3):
        torch.manual_seed(seed)
        layers = torch.nn.Conv2d(3, 8, 5, stride=2), torch.nn.Tanh(), torch.nn.Flatten()
        network = torch.nn.Sequential(*layers, torch.nn.LazyLinear(12)).eval()
        shops.append(Recommender.of(network, pixels))
    return *shops, block


def rows(setting, *sources, name="pgd-8", on=0, **changes):
    block = dataclasses.replace(setting[3], **changes)
    outcomes = evaluate_block(setting[on], registry.by_name(name), block, *sources)
    return outcomes.rows.to_pandas().drop(columns="seconds")


def test_an_image_made_on_two_comes_near_by_both_and_costs_twice(setting):
    _, one, two, _ = setting
    for on, other in ((1, two), (2, one)):
        both, wrong = rows(setting, one, two, on=on), rows(setting, other, on=on)
        assert both.adversarial_distance.mean() < 0.5 * wrong.adversarial_distance.mean()
    made = rows(setting, one, two)
    assert set(made.gradient_steps) == set(made.forward_passes) == {16}
    same, alone = rows(setting, one, one), rows(setting, one)
    assert same.l2.to_numpy() == pytest.approx(alone.l2.to_numpy(), abs=0.05)


def test_a_tuple_that_is_solved_on_all_sources_stops(setting):
    made = rows(setting, setting[0], setting[1], name="apgd-40", stop="rank-1", epsilons=(0.2,))
    early = made.gradient_steps < 80
    assert early.any()
    assert made.adversarial_rank[early].median() <= 3


def test_diverse_and_smoothed_attacks_have_equal_rows_in_any_batch(setting):
    keys = {"di": 1.0, "ti": 3}
    whole, parts = (rows(setting, setting[1], batch=batch, **keys) for batch in (12, 5))
    assert whole.adversarial_distance.to_numpy() == pytest.approx(
        parts.adversarial_distance.to_numpy(), abs=2e-3
    )
    # Each score beside the gradient of another image is a pass of its own.
    assert (set(whole.gradient_steps), set(whole.forward_passes)) == ({8}, {16})
    plain = rows(setting, setting[1])
    assert not (plain.l2 == whole.l2).any()
    assert rows(setting, setting[1], di=0.0, ti=1).equals(plain)


def test_from_python_too(setting):
    shop, one, two, block = setting
    result = advrec.attack(
        shop,
        target=block.target_ids,
        article=block.attack_ids,
        attack="pgd-8",
        epsilon=0.05,
        source=[one, two],
        seed=block.seed,
    )
    made = rows(setting, one, two)
    assert result.ranks.tolist() == made.adversarial_rank.tolist()


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"from": ["unsecured", "nobody"]}, "from is nobody, which is not a model of the study"),
        ({"from": ["unsecured", "unsecured"]}, "from lists unsecured twice"),
        ({"ti": 4}, "ti is 4; a kernel has an odd side, as 5"),
        ({"di": 1.5}, "di"),
        ({"di": 0.5, "attack": "square-9"}, "of gradients, which square-9 has none of"),
        ({"ti": 3, "attack": "noise"}, "of gradients, which noise has none of"),
    ],
)
def test_what_cannot_be_transferred_is_refused_in_one_sentence(entry, said):
    attacks = [{"name": "t", "attack": "pgd-2"} | entry]
    with pytest.raises(ConfigError, match=said) as error:
        study(evaluation=STUDY["evaluation"] | {"attacks": attacks})
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="di differs from what pgd-2 means"):
        study(evaluation=STUDY["evaluation"] | {"attacks": [{"attack": "pgd-2", "di": 0.5}]})


def test_a_run_makes_them_and_records_what_determined_them(tmp_path, ready):
    run = Run(tmp_path / "results" / "s")
    shutil.copytree(ready.directory, run.directory)
    network = checkpoint.load(run.weights("unsecured"))
    architecture = network.architecture
    for seed, name in ((1, "other"), (2, "third")):
        made = random_network(len(architecture.categories), len(architecture.textures), seed)
        checkpoint.save(run.weights(name), made)
    names = ("unsecured", "other", "third")
    models = {name: {"defense": "none", "epochs": 1} for name in names}
    pair = {"name": "pair", "attack": "pgd-2", "from": ["other", "third"]}
    keys = {"name": "keys", "attack": "pgd-2", "from": "other", "di": 0.5, "ti": 3}
    attacks = ["pgd-2", pair, keys]
    evaluation = {"attacks": attacks, "tuples": 4, "checks": 0, "epsilons": [0.05]}
    write_study(tmp_path / "s.yaml", ready, evaluation=evaluation, models=models)
    done = commands.advrec("evaluate", "s.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = rows_of_run(run.directory)
    steps = made.groupby("attack").gradient_steps.unique().map(list).to_dict()
    assert steps == {"pgd-2": [2], "pair": [4], "keys": [2]}
    recorded = json.loads((run.directory / "identities.json").read_text())
    assert not {"di", "ti"} & set(recorded["attacks/unsecured/pgd-2"])
    assert recorded["attacks/unsecured/pair"]["from"] == ["other", "third"]
    assert len(set(recorded["attacks/unsecured/pair"]["source_weights"])) == 2
    assert recorded["attacks/unsecured/keys"]["di"] == 0.5
    (lost,) = run.directory.glob("attacks/model=unsecured/attack=pair/block-*.parquet")
    lost.unlink()
    again = commands.advrec("evaluate", "s.yaml", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    pd.testing.assert_frame_equal(rows_of_run(run.directory), made)
    changed = json.dumps([pair | {"from": ["other", "unsecured"]}])
    other = commands.advrec(
        "evaluate", "s.yaml", "--set", f"evaluation.attacks={changed}", cwd=tmp_path
    )
    assert other.returncode == 2
    assert "from" in other.stderr
