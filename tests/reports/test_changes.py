"""Defenses without labels in a report are held against their own original, not the study's first
model.
"""

import numpy as np
import pytest
import yaml

from advrec.evaluation.changes import changes as measure
from advrec.reports import results, terminal
from advrec.reports.page import comparison
from advrec.reports.tables import changes, quantities
from advrec.run import schema
from advrec.run.changes import CHANGES
from advrec.run.files import write_table, write_text
from advrec.run.tables import read_embeddings, read_table
from tests.reports.test_verdict import choice, said, set_ranks

OWN = {"model": "shop.encoder:network"}
FARE = {"defense": "fare"}
SHARES = ("overlap_percent", "low_percent", "high_percent")


def renamed(run, **entries):
    """A study of other models on the rows of `unsecured`, `at` and `cat`; a model that is defended
    without labels has its changes from its original, `of`.
    """
    study = yaml.safe_load(run.study.read_text())
    for name, entry in entries.items():
        first = entry.pop("of", None)
        if entry.get("defense") in ("fare", "lore"):
            run.history(name).unlink(missing_ok=True)  # which holds accuracies
        if first is not None:
            own, theirs = (read_embeddings(run, each, 8) for each in (name, first))
            ids = np.arange(30, dtype=np.int32)
            write_table(run.changes(name), measure(own, theirs, ids))
    write_text(run.study, yaml.safe_dump(study | {"models": entries}, sort_keys=False))
    return run


@pytest.fixture
def two(make_run):
    """Encoders `unsecured` and `at` of the shop's own; `cat` is `at`, defended."""
    run = make_run(trained=True, attacks=["pgd-8"], epsilons=(0.01, 0.05))
    entries = {"unsecured": OWN, "at": OWN, "cat": FARE | {"init": "at", "of": "at"}}
    for model, count in (("unsecured", 2), ("at", 18), ("cat", 6)):
        set_ranks(run, model, "pgd-8", [each < count for each in range(20)])
        (run.model(model) / "metrics.json").unlink()
    return renamed(run, **{name: dict(entry) for name, entry in entries.items()})


def share_of_lists(run, model, other):
    own, theirs = (
        read_table(run.lists(each), schema.LISTS)["neighbours"].to_pylist()
        for each in (model, other)
    )
    return 100 * np.mean([len({*a} & {*b}) / 10 for a, b in zip(own, theirs, strict=True)])


def test_what_a_defense_saves_is_told_against_its_original(two):
    (sentence,) = said(two, "What each defense saves")  # the undefended `at` is no defense
    assert "<strong>30.0 %</strong>" in sentence
    assert "<strong>90.0 %</strong>" in sentence
    assert "on <b>at</b>: 60.0 points less" in sentence
    assert "It saves 60.0 points at 0.01, 60.0 points at 0.05." in sentence
    (sentence,) = said(two, "What it changes in recommendation quality")
    assert sentence.startswith("<b>cat</b>: ")


def test_an_encoder_without_a_defense_keeps_its_lists_and_may_be_chosen(two):
    kept = changes.kept(results.read(two))
    assert kept["unsecured"] == kept["at"] == [100.0] * 3
    assert kept["cat"][0] == pytest.approx(share_of_lists(two, "cat", "at"))
    assert "not known" not in " ".join(choice(two))
    assert choice(two)[0].startswith("<b>unsecured</b>: ")  # keeps all, and is hardest to attack


def test_the_terminal_and_the_tables_have_one_share_of_lists(two):
    read = results.read(two)
    expected = share_of_lists(two, "cat", "at")
    lines = terminal.comparison_text(read).splitlines()
    (line,) = [each for each in lines if each.startswith("overlap of lists")]
    assert f"{expected:.1f} (" in line.split("  ")[-1], line
    (table,) = [comparison.changes_table(read).rows]
    assert table[0][1].text == f"{expected:.1f} %"
    (sentence,) = said(two, "What it changes in recommendation quality")
    assert f"<b>cat</b>: overlap of lists: <strong>{expected:.1f} %</strong>" in sentence
    caption = comparison.recommendations_table(read).caption
    assert "unsecured recommends too, or the original of a defense without labels" in caption


def test_no_defense_is_told_of_where_there_is_none(two):
    renamed(two, unsecured=dict(OWN), at=dict(OWN))
    assert said(two, "What each defense saves") is None
    assert said(two, "What it changes in recommendation quality") is None


def test_a_joined_model_with_a_defended_part_is_a_defense(two):
    entries = {"unsecured": dict(OWN), "cat": FARE | {"init": "unsecured"}}
    renamed(two, **entries, at={"join": ["unsecured", "cat"]})
    _, joined = said(two, "What each defense saves")
    assert joined.startswith("<b>at</b>: ")
    renamed(two, **entries | {"cat": FARE | {"init": "unsecured", "of": "unsecured"}})
    kept = changes.kept(results.read(two))
    assert [model for model, share in kept.items() if share[0] == 100] == ["unsecured"]


def test_a_joined_model_is_held_against_the_one_original_of_its_parts_or_none(two):
    entries = {"at": dict(OWN), "cat": FARE | {"init": "at", "of": "at"}}
    renamed(two, **{k: dict(v) for k, v in entries.items()}, unsecured={"join": ["at", "cat"]})
    read = results.read(two)
    assert read.base("unsecured") == "at"
    overlaps = read.recommendations.query("quantity == 'overlap'").set_index("model")["percent"]
    assert overlaps["unsecured"] == pytest.approx(share_of_lists(two, "unsecured", "at"))
    (sentence,) = [
        each for each in said(two, "What it changes in recommendation quality") if "unsec" in each
    ]
    assert "with those of <b>at</b>" in sentence

    others = {"unsecured": dict(OWN), "cat": FARE | {"init": "unsecured", "of": "unsecured"}}
    renamed(two, other=dict(OWN), **others, at={"join": ["other", "cat"]})
    read = results.read(two)
    assert read.base("at") is None
    assert "at" not in changes.kept(read)
    assert set(read.recommendations.query("quantity == 'overlap'")["model"]) == {"cat"}
    for heading in ("What each defense saves", "What it changes in recommendation quality"):
        (sentence,) = [each for each in said(two, heading) if each.startswith("<b>at</b>")]
        assert "parts began with different models, so it is held against none" in sentence
        assert "points" not in sentence


@pytest.mark.parametrize("defended", ["cat", "at"])
def test_classifiers_beside_a_defense_without_labels_are_weighed_by_lists(make_run, defended):
    """None is left out for want of an accuracy, whichever has it."""
    run = make_run(trained=True, attacks=["pgd-8"])
    (run.model(defended) / "metrics.json").unlink()
    (trained,) = {"at", "cat"} - {defended}
    entries = {
        "unsecured": {"defense": "none", "width": 0.5},
        "at": {"defense": "at", "width": 0.5, "init": "unsecured"},
        "cat": {"defense": "cat", "width": 0.5, "init": "unsecured"},
        defended: FARE | {"init": "unsecured", "of": "unsecured"},
    }
    renamed(run, **entries)
    name, known = quantities.quality_of(results.read(run))
    assert name == "overlap of lists"
    assert known["unsecured"][0] == 100
    for model in (defended, trained):
        assert known[model][0] == pytest.approx(share_of_lists(run, model, "unsecured"))
    assert "Left out" not in " ".join(choice(run))


@pytest.mark.parametrize("left_out", ["at", "unsecured"])
def test_a_model_that_is_not_compared_may_be_an_original_or_stand_between(make_run, left_out):
    run = make_run(trained=True, attacks=["pgd-8"])
    entries = {
        "unsecured": dict(OWN),
        "at": FARE | {"init": "unsecured", "of": "unsecured"},
        "cat": {"defense": "lore", "init": "at", "of": "unsecured"},
    }
    before = changes.changes(results.read(renamed(run, **{k: dict(v) for k, v in entries.items()})))
    before = before.set_index("model").loc["cat"]
    entries[left_out]["compared"] = False
    run = renamed(run, **{k: dict(v) for k, v in entries.items()})
    after = changes.changes(results.read(run)).set_index("model").loc["cat"]
    assert after["original"] == "unsecured"
    assert after.to_dict() == before.to_dict()
    (line,) = [
        each
        for each in terminal.comparison_text(results.read(run)).splitlines()
        if each.startswith("overlap of lists")
    ]
    assert f"{after['overlap_percent']:.1f} (" in line
    assert said(run, "What it changes in recommendation quality") is not None


def test_every_column_equals_a_recomputation_from_embeddings(two):
    """Drift, and where the original's lists rank by the old index and by the new one."""
    own, first = (read_embeddings(two, each, 8).astype(float) for each in ("cat", "at"))
    drifts, new, old = [], [], []
    for article in range(30):
        drifts.append(
            np.linalg.norm(own[article] - first[article]) / np.linalg.norm(first[article])
        )
        true = _order(first[article], first, article)[:10]
        new += [1 + _order(own[article], first, article).index(each) for each in true]
        old += [1 + _order(first[article], own, article).index(each) for each in true]
    stored = read_table(two.changes("cat"), CHANGES).to_pydict()
    assert stored["drift"] == pytest.approx(drifts, rel=1e-5)
    assert np.concatenate(stored["new_query_ranks"]).tolist() == new
    assert np.concatenate(stored["old_query_ranks"]).tolist() == old
    assert new != old
    row = changes.changes(results.read(two)).iloc[0]
    assert row["n"] == 30
    assert row["drift_median"] == pytest.approx(np.median(drifts), rel=1e-5)
    assert row["drift_95"] == pytest.approx(np.quantile(drifts, 0.95), rel=1e-5)
    assert row["drift_95"] > 1.1 * row["drift_median"]
    for name, ranks in (("new_query", new), ("old_query", old)):
        assert row[f"{name}_rank_median"] == np.median(ranks)
        assert row[f"{name}_found_percent"] == pytest.approx(100 * _found(ranks) / len(ranks))
    assert _found(new) != _found(old)  # so that the columns cannot be one


def _order(query, catalog, article):
    """The other articles, by their cosine distance from a query."""
    far = 1 - catalog @ query / np.linalg.norm(catalog, axis=1) / np.linalg.norm(query)
    return [int(each) for each in np.argsort(far, kind="stable") if each != article]


def _found(ranks):
    return sum(rank <= 10 for rank in ranks)
