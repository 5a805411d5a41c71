"""What the page says first: which models are worth choosing from, and what knows nothing reaches."""

import shutil
from collections import Counter

import numpy as np
import pytest

from advrec import schema
from advrec.reports import results, tables
from advrec.reports.report import write_report
from advrec.reports.verdict import verdict
from advrec.store import read_json, read_table, write_json, write_table


def choice(run):
    points = {point.heading: [str(sentence) for sentence in point.sentences] for point in verdict(results.read(run))}
    return points.get("Which models to choose from")


def test_a_model_that_another_beats_in_both_is_no_choice(make_run):
    run = make_run(checks=12)
    success = {model: row["percent"] for model, row in tables.strongest(results.read(run)).items()}
    assert success["at"] < success["cat"] < success["unsecured"]  # and accuracies fall likewise: 56, 62, 68 %
    everyone = "<b>unsecured</b>, <b>at</b>, <b>cat</b>: each more accurate, or harder to attack, than any of the others."
    assert choice(run) == [everyone]
    path = run.model("at") / "metrics.json"
    write_json(path, read_json(path) | {"clean_accuracy": 0.65})
    assert choice(run) == [
        "<b>unsecured</b>, <b>at</b>: each more accurate, or harder to attack, than any of the others. "
        "Every other model is no better than one of these in either, and worse in one."
    ]
    write_json(path, read_json(path) | {"clean_accuracy": 0.7})
    assert choice(run) == ["<b>at</b>: no other is more accurate, and none is harder to attack."]
    # Numbers that a check does not bear out recommend nothing.
    write_json(run.health("at"), read_json(run.health("at")) | {"mean_cosine": 0.991, "effective_rank": 1.4})
    others = "<b>unsecured</b>, <b>cat</b>: each more accurate, or harder to attack, than any of the others."
    assert choice(run) == [others, "Left out, because a check of it failed: <b>at</b>."]


def test_one_model_is_no_choice(make_run):
    run = make_run()
    for model in ("at", "cat"):
        (run.model(model) / "metrics.json").unlink()
    assert choice(run) is None


@pytest.mark.usefixtures("quick")
def test_the_sentences_of_many_models_are_folded(make_run):
    run = make_run()
    assert "All 2 models" not in write_report(results.read(run)).read_text(encoding="utf-8")
    extra = [f"cat{number}" for number in range(3)]
    for name in extra:
        shutil.copytree(run.model("cat"), run.model(name))
        shutil.copytree(run.attacks / "model=cat", run.attacks / f"model={name}")
    lines = "".join(f"  {name}: {{defense: cat, width: 0.5, init: unsecured}}\n" for name in extra)
    run.study.write_text(run.study.read_text().replace("evaluation:", lines + "evaluation:"))
    page = write_report(results.read(run)).read_text(encoding="utf-8")
    assert page.count("<summary>All 5 models</summary>") == 2
    assert page.index("How exposed") < page.index("<summary>All 5 models") < page.index("<b>cat2</b>: the strongest attack on it")


def test_chance_equals_a_naive_count(make_run):
    run = make_run()
    catalog = read_table(run.catalog, schema.CATALOG).to_pydict()
    catalog["category"] = ["shoe"] * 5 + ["bag"] * 10 + ["hat"] * 15
    catalog["split"] = (["train", "test", "test", "test", "test"] * 6)[:30]
    write_table(run.catalog, schema.table(schema.CATALOG, catalog))
    largest, same = tables.chance(results.read(run))
    test = [name for name, split in zip(catalog["category"], catalog["split"], strict=True) if split == "test"]
    assert largest == pytest.approx(100 * Counter(test).most_common(1)[0][1] / len(test))
    pairs = [(a, b) for a in range(30) for b in range(30) if a != b]
    assert same == pytest.approx(100 * np.mean([catalog["category"][a] == catalog["category"][b] for a, b in pairs]))
    assert "For scale: always naming the largest category" in write_report(results.read(run)).read_text(encoding="utf-8")
