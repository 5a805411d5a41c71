"""Identities as version 0.1.0 recorded them: no key and no value may change."""

import hashlib

import pytest

from advrec.errors import ConfigError
from advrec.run import identity
from advrec.run.cells import Cell
from advrec.run.directory import Run
from advrec.spec import study as study_file
from tests.conftest import study

CATALOG = {
    "annotations": None, "articles": 132, "boxes": False, "duplicates": 0, "image_size": 32,
    "manifest": None, "published_split": False, "root": None, "seed": 42, "source": "synthetic",
    "square": "pad", "unknown_is_positive": False,
}  # fmt: skip
UNSECURED = {
    "defense": "none", "backbone": "mobilenet_v2", "width": 0.5, "weights": "none",
    "init": "none", "recipe": "advrec", "epochs": 1, "batch": 32, "learning_rate": 0.002,
    "seed": 42,
}  # fmt: skip


def test_the_parts_of_a_study_are_determined_by_these_keys():
    parts = identity.identities(study())
    assert parts.catalog == CATALOG
    assert parts.models == {"unsecured": UNSECURED}
    drawn = {"root": None, "image_size": 32, "square": "pad", "seed": 42, "articles": 132}
    listing = {"sha256": "listing", "shard": 256}
    prepared = identity.prepared(study(), listing_sha256="listing", shard=256)
    assert prepared == drawn | listing
    assert parts.tuples == {"split": "test", "seed": 42, "tuples": 12}


def test_a_cell_is_determined_by_these_keys():
    wanted = study()
    cell = Cell("checks", "unsecured", wanted.evaluation.attacks[1], (0.05,), first=6)
    said = {
        "attack": "pgd-2", "stop": "never", "nested": False, "restarts": 0, "from": None,
        "through": [], "rank": 1, "epsilons": [0.05], "delivery": [], "seed": 42, "block": 4,
        "batch": 96, "cpus_per_actor": 1, "protocol": 5, "first": 6,
    }  # fmt: skip
    assert identity.cell(wanted, cell) == said
    # Whole blocks are the same for any number of tuples.
    assert identity.cell(wanted, cell._replace(first=8))["first"] is None
    hashes = {"catalog": "c", "tuples": "t", "device": "cpu"}
    assert identity.outcomes(wanted, cell, weights={"unsecured": "w"}, **hashes) == {
        **said, **hashes, "weights": "w", "source_weights": None,
    }  # fmt: skip


TARGETS = {"audience": {"targets": {"a": 1.0, "b": 2.0}}, "promoted": 3, "attacks": ["pgd-2"]}


def promotion(part="promotions", attack=None, **evaluation):
    """The identity of a cell before targets."""
    entries = {"attacks": [{"name": "x", "attack": "pgd-2", **(attack or {})}]}
    wanted = study(evaluation=TARGETS | entries | evaluation)
    attack = wanted.evaluation.attacks[0]
    return identity.cell(wanted, Cell(part, "unsecured", attack, (0.05,), audience="targets"))


@pytest.mark.parametrize(
    ("keys", "changes"),
    [
        ({"attack": {"goal": "demote"}}, {"goal"}),
        ({"attack": {"loss": "score"}}, {"loss"}),
        ({"attack": {"share": 0.5}}, {"share"}),
        ({"attack": {"loss": "hit", "goal": "promote"}}, set()),
        ({"split": "validation"}, {"split"}),
        ({"promoted": 4}, {"promoted"}),
        ({"ranks": [1, 10]}, {"ranks"}),
        ({"ranks_of": 2}, {"ranks_of"}),
        ({"audience": {"targets": {"a": 1.0, "b": 3.0}}}, {"targets"}),
        ({"audience": {"targets": {"a": 1.0, "c": 2.0}}}, {"targets"}),
        ({"audience": ["neighbours", TARGETS["audience"]]}, set()),
        ({"tuples": 9, "checks": 2}, set()),
    ],
    ids=str,
)
def test_a_promotion_is_determined_by_who_is_promoted_before_whom_and_how(keys, changes):
    before, after = promotion(), promotion(**keys)
    assert before.keys() == after.keys()
    assert {key for key in before if before[key] != after[key]} == changes


def test_named_promoted_articles_are_of_no_split_and_a_run_that_recorded_one_goes_on(tmp_path):
    named = promotion(promoted=["a", "b"])
    assert promotion(promoted=["a", "b"], split="validation") == named
    others = [promotion(promoted=names) for names in (["b", "a"], ["a", "c"])]
    assert all(other["promoted"] != named["promoted"] for other in others)
    part = "promotions/unsecured/x"
    Run(tmp_path).claim(part, named | {"split": "test"}, made=False)
    Run(tmp_path).claim(part, named, made=True)


def test_a_run_goes_on_with_ranks_of_fewer_articles_and_not_of_more(tmp_path):
    run, part = Run(tmp_path), "promotions/unsecured/x"
    of = {number: promotion(ranks_of=number) for number in (0, 2, 3)}
    run.claim(part, of[3], made=False)
    for number in (3, 2, 0):
        run.claim(part, of[number], made=True)
    # not again: the blocks made since then have none
    with pytest.raises(ConfigError, match=r"ranks_of = 0, the study says 2; .*none are added to"):
        run.claim(part, of[2], made=True)
    checks = [promotion("promotion_checks", ranks_of=number) for number in (0, 3)]
    assert checks[0] == checks[1]


def test_what_a_model_starts_from_determines_it_and_whether_it_is_compared_does_not():
    models = {"unsecured": {"defense": "none"}, "at": {"defense": "at", "init": "unsecured"}}
    before = identity.identities(study(models=models)).models
    assert before["at"]["init_sha256"] == study_file.canonical_hash(before["unsecured"])
    models["unsecured"]["compared"] = False
    assert identity.identities(study(models=models)).models == before
    models["unsecured"]["epochs"] = 3
    after = identity.identities(study(models=models)).models
    assert after["at"]["init_sha256"] != before["at"]["init_sha256"]


def test_a_csv_of_tuples_counts_by_its_content_and_one_that_has_gone_is_not_compared(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("target_name,attack_name\n")
    wanted = hashlib.sha256(b"target_name,attack_name\n").hexdigest()
    for name in ("a.csv", "b.csv"):
        evaluation = {"tuples": str(tmp_path / name), "attacks": ["fgsm"]}
        parts = identity.identities(study(evaluation=evaluation))
        assert parts.tuples == {"split": "test", "seed": 42, "tuples": f"a CSV of SHA-256 {wanted}"}
    (tmp_path / "b.csv").unlink()
    assert identity.identities(study(evaluation=evaluation)).tuples is None


def test_the_file_of_a_users_weights_is_hashed_where_it_matters(tmp_path):
    weights = tmp_path / "w.pt"
    models = {"shop": {"model": "resnet18", "checkpoint": str(weights)}}
    with pytest.raises(ConfigError, match=r"models\.shop: checkpoint .* cannot be read"):
        identity.identities(study(models=models))
    assert (
        "checkpoint_sha256"
        not in identity.identities(study(models=models), with_code=False).models["shop"]
    )
    weights.write_bytes(b"weights")
    part = identity.identities(study(models=models)).models["shop"]
    assert part["checkpoint_sha256"] == hashlib.sha256(b"weights").hexdigest()
