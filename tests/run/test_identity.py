"""Identities as version 0.1.0 recorded them: no key and no value may change."""

import hashlib

import pytest

from advrec.errors import ConfigError
from advrec.run import identity
from advrec.run.cells import Cell
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
