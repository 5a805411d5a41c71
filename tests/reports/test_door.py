"""What the page says of models that do something to every image themselves."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml

from advrec.evaluation.rates import paired_difference
from advrec.reports import results
from advrec.reports.page.banners import banners
from advrec.reports.page.verdict import verdict
from advrec.reports.report import write_report
from advrec.reports.tables import checks, door
from tests.reports import conftest

KNOWING = {"name": "pgd-32", "attack": "pgd-32", "through": ["ingest"]}
BLIND = {"name": "pgd-8", "attack": "pgd-32", "through": []}


def entries(*attacks):
    """Through of entries is only known where a model has an ingest: it is set afterwards."""
    return [{**each, "through": []} for each in attacks]


@pytest.fixture
def made(make_run):
    def of(*attacks):
        run = make_run(attacks=entries(*attacks))
        content = yaml.safe_load(run.study.read_text())
        for entry, attack in zip(content["evaluation"]["attacks"], attacks, strict=True):
            entry["through"] = attack["through"]
        content["models"]["at"]["ingest"] = "jpeg-75"
        run.study.write_text(yaml.safe_dump(content, sort_keys=False))
        return run

    return of


def saving_of(read, model="at"):
    (point,) = [each for each in verdict(read) if each.heading == "What each defense saves"]
    (sentence,) = [each for each in point.sentences if f"<b>{model}</b>" in each[:20]]
    return sentence


def test_a_door_that_was_attacked_only_blindly_is_not_praised(made, quick):
    run = made(BLIND)
    read = results.read(run)
    assert door.blindly(read, "at") == [0.01, 0.05]
    assert door.blindly(read, "cat") == []
    (banner,) = [each for each in banners(read) if "blindly" in each.text]
    assert re.search(r"at \(ingest jpeg-75\) .* 0\.01, 0\.05.*add auto", banner.text)
    assert "attacked only blindly" in saving_of(read)
    assert "points" not in saving_of(read)
    assert "points" in saving_of(read, "cat")
    write_report(read)
    page = (run.directory / "report" / "index.html").read_text()
    assert "Does the door hold?" not in page
    assert not (run.directory / "report" / "tables" / "door.csv").exists()


def test_a_knowing_attack_stands_beside_the_blind_one_and_the_sentence_is_back(made, quick):
    run = made(KNOWING, BLIND)
    read = results.read(run)
    assert door.blindly(read, "at") == []
    assert not [each for each in banners(read) if "blindly" in each.text]
    assert "points" in saving_of(read)
    write_report(read)
    assert "Does the door hold?" in (run.directory / "report" / "index.html").read_text()
    table = pd.read_csv(run.directory / "report" / "tables" / "door.csv")
    assert set(table["model"]) == {"at"}
    for row in table.to_dict("records"):
        rows = read.outcomes[
            (read.outcomes["model"] == "at") & (read.outcomes["epsilon"] == row["epsilon"])
        ]
        own, other = (
            rows[rows["attack"] == name].sort_values("tuple_id") for name in ("pgd-32", "pgd-8")
        )
        change = (own["adversarial_rank"] <= row["rank"]).astype(int).to_numpy() - (
            other["adversarial_rank"] <= row["rank"]
        ).astype(int).to_numpy()
        assert row["n"] == len(own) == len(other)
        assert row["difference_points"] == pytest.approx(100 * change.mean())
        low, high = paired_difference(change, own["target_id"])
        assert (row["low_points"], row["high_points"]) == pytest.approx((100 * low, 100 * high))


def test_a_transfer_is_blind_to_the_door_of_the_model_that_it_attacks(made):
    transfer = KNOWING | {"from": "unsecured"}
    assert door.blindly(results.read(made(transfer)), "at") == [0.01, 0.05]


@pytest.mark.parametrize(("rank", "verdict"), [(25, "passed"), (1, "failed")])
def test_a_blind_attack_that_beats_the_knowing_one_raises_the_flag(
    make_run, monkeypatch, rank, verdict
):
    """`rank` is what the blind probe reaches on every tuple."""
    probed = conftest.probed

    def with_blind(cell, pairs, articles):
        rows = probed(cell, pairs, articles)
        if cell.attack.name == "apgd-50-blind":
            rows["adversarial_rank"] = np.full_like(rows["adversarial_rank"], rank)
        return rows

    guarded = conftest.STUDY.replace("{{defense: at,", "{{defense: at, ingest: bits-2,")
    monkeypatch.setattr(conftest, "STUDY", guarded)
    monkeypatch.setattr(conftest, "probed", with_blind)
    read = results.read(make_run(tuples=40, checks=40))
    found = {(model, check.name): check.verdict for model, check in read.checks}
    name = "who knows of the ingest does better"
    assert found["at", name] == verdict
    assert ("cat", name) not in found
    said = [model for model, check in checks.failed(read) if check.name == name]
    assert said == (["at"] if verdict == "failed" else [])
