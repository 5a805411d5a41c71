"""What the page says first: what defenses save and cost, which models are worth choosing from, and
what knows nothing reaches.
"""

import shutil
from collections import Counter

import numpy as np
import pytest

from advrec.evaluation.rates import paired_difference
from advrec.reports import results
from advrec.reports.page.comparison import quality_table
from advrec.reports.page.verdict import verdict
from advrec.reports.report import write_report
from advrec.reports.tables import exposure, quantities, success
from advrec.run import schema
from advrec.run.files import read_json, write_json, write_table, write_text
from advrec.run.tables import read_table


def said(run, heading):
    points = {
        point.heading: [str(sentence).replace("\u00a0", " ") for sentence in point.sentences]
        for point in verdict(results.read(run))
    }
    return points.get(heading)


def choice(run):
    return said(run, "Which models to choose from")


def set_accuracy(run, model, accuracy):
    path = run.model(model) / "metrics.json"
    write_json(path, read_json(path) | {"clean_accuracy": accuracy})


def set_ranks(run, model, attack, reached):
    """`reached`: by tuple."""
    for block in range(-(-len(reached) // 8)):
        path = run.block(model, attack, block)
        rows = read_table(path, schema.OUTCOMES).to_pydict()
        rows["adversarial_rank"] = [1 if reached[each] else 20 for each in rows["tuple_id"]]
        write_table(path, schema.table(schema.OUTCOMES, rows))


@pytest.mark.parametrize(
    ("images", "counted", "words"),
    [
        ("catalog", {"test_images_seen": 20}, "saw 20 images of the test split"),
        ("/photos", {"test_images_seen": 3}, "saw 3 images of the test split"),
        ("catalog", {}, "saw images of the test split"),  # of an earlier version
        ("/photos", {"test_images_seen": 0}, None),
        ("train", {}, None),
    ],
)
def test_a_model_that_saw_test_images_is_named(make_run, images, counted, words):
    run = make_run()
    entry = f"cat: {{defense: fare, init: unsecured, images: {images}}}"
    text = run.study.read_text()
    old = "cat: {defense: cat, width: 0.5, init: unsecured}"
    assert old in text
    write_text(run.study, text.replace(old, entry))
    path = run.model("cat") / "metrics.json"
    write_json(path, read_json(path) | counted)
    found = [
        line
        for line in said(run, "What it changes in recommendation quality")
        if "training saw" in line
    ]
    if words is None:
        assert not found
    else:
        assert len(found) == 1
        assert words in found[0]
        assert found[0].startswith("<b>cat</b>")


@pytest.mark.parametrize(
    ("of_base", "of_own", "words"),
    [
        (14, 8, "{:.1f} points less (95 % interval {:.1f} to {:.1f})."),
        (19, 18, "{:+.1f} points (95 % interval {:+.1f} to {:+.1f}), which may be chance."),
        (6, 20, "{:.1f} points more (95 % interval {:.1f} to {:.1f})."),
    ],
)
def test_a_saving_is_told_by_the_tuples_that_both_models_have(make_run, of_base, of_own, words):
    base, own = ([each < count for each in range(20)] for count in (of_base, of_own))
    run = make_run(attacks=["pgd-8"], epsilons=(0.05,))
    set_ranks(run, "unsecured", "pgd-8", base)
    set_ranks(run, "cat", "pgd-8", own)
    targets = read_table(run.tuples, schema.TUPLES)["target_id"].to_pylist()
    changes = np.array(own).astype(int) - np.array(base).astype(int)
    difference, bounds = (
        100 * changes.mean(),
        sorted(100 * np.array(paired_difference(changes, targets))),
    )
    shown = (-difference, -bounds[1], -bounds[0]) if "less" in words else (difference, *bounds)
    sentence = said(run, "What each defense saves")[1]
    assert sentence.startswith("<b>cat</b>: the strongest attack on it, <b>pgd-8</b>, succeeds in")
    assert f"<strong>{100 * np.mean(own):.1f} %</strong>" in sentence
    assert sentence.endswith(f"on <b>unsecured</b>: {words.format(*shown)}")


SMALL, LARGE = 0.01, 0.05


@pytest.mark.parametrize(
    ("small", "large", "words"),
    [
        (2, 20, "It saves 80.0 points at 0.01; no more than may be chance at 0.05."),
        (2, 4, "It saves 80.0 points at 0.01, 80.0 points at 0.05."),
        (18, 20, "At none of the study's budgets (0.01, 0.05) does it save more than may be"),
    ],
)
def test_a_saving_is_told_at_each_budget_of_the_study(make_run, small, large, words):
    """18 of 20 fall without a defense at the small budget, all at the large one."""
    run = make_run(attacks=["pgd-8"], epsilons=(SMALL, LARGE))
    for model, counts in (("unsecured", (18, 20)), ("cat", (small, large))):
        for block in range(3):
            path = run.block(model, "pgd-8", block)
            rows = read_table(path, schema.OUTCOMES).to_pydict()
            most = dict(zip((SMALL, LARGE), counts, strict=True))
            cells = zip(rows["tuple_id"], rows["epsilon"], strict=True)
            rows["adversarial_rank"] = [1 if each < most[budget] else 20 for each, budget in cells]
            write_table(path, schema.table(schema.OUTCOMES, rows))
    assert words in said(run, "What each defense saves")[1]


def test_one_budget_is_not_told_twice(make_run):
    run = make_run(attacks=["pgd-8"], epsilons=(LARGE,))
    assert "budgets" not in " ".join(said(run, "What each defense saves"))


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [
        # of 300 articles each, 68 % without a defense
        (0.56, "12.0 points less (95 % interval 4.2 to 19.6)."),
        (0.66, "-2.0 points (95 % interval -9.5 to +5.5), which may be chance."),
        (0.90, "22.0 points more (95 % interval 15.6 to 28.2)."),
    ],
)
def test_a_price_is_the_difference_of_accuracies_with_its_interval(make_run, accuracy, words):
    run = make_run()
    set_accuracy(run, "at", accuracy)
    assert said(run, "What it changes in recommendation quality")[0].endswith(
        f"for <b>unsecured</b>: {words}"
    )


def test_what_all_attacks_reach_together_is_said_where_it_is_more(make_run):
    run = make_run(attacks=["fgsm", "pgd-8"])
    set_ranks(run, "unsecured", "pgd-8", [True] * 12 + [False] * 8)
    set_ranks(run, "unsecured", "fgsm", [False] * 15 + [True] * 5)
    row = (
        exposure.worst_case(results.read(run))
        .query("model == 'unsecured' and epsilon == 0.05")
        .iloc[0]
    )
    assert row["percent"] == 85.0
    assert (
        "At least one of the 2 attacks succeeds in <strong>85.0 %</strong>"
        in said(run, "Exposure")[1]
    )
    set_ranks(run, "unsecured", "fgsm", [True] * 5 + [False] * 15)
    assert "At least one" not in " ".join(said(run, "Exposure"))


@pytest.mark.long
def test_a_model_that_another_beats_in_both_is_no_choice(make_run):
    run = make_run(checks=12)
    shares = {model: row["percent"] for model, row in success.strongest(results.read(run)).items()}
    # and accuracies fall likewise: 56, 62, 68 %
    assert shares["at"] < shares["cat"] < shares["unsecured"]
    chance = " Differences smaller than their intervals may be chance."
    pair = said(run, "Which models to choose from")[1]
    assert pair.startswith("In success, <b>at</b> against <b>cat</b>, the two hardest to attack: ")
    none = (
        ": by the measured values none of these is both more accurate and harder to attack "
        f"than another.{chance}"
    )
    assert choice(run) == [f"<b>unsecured</b>, <b>at</b>, <b>cat</b>{none}", pair]
    set_accuracy(run, "at", 0.65)
    rest = (
        ": by the measured values each other model is neither more accurate nor harder to attack "
        f"than one of these.{chance}"
    )
    assert choice(run) == [f"<b>unsecured</b>, <b>at</b>{rest}", pair]
    set_accuracy(run, "at", 0.7)
    assert choice(run) == [
        "<b>at</b>: by the measured values no other model is as accurate and as hard to attack."
        + chance,
        pair,
    ]
    # Numbers that a check does not bear out recommend nothing.
    write_json(
        run.health("at"),
        read_json(run.health("at")) | {"mean_cosine": 0.991, "effective_rank": 1.4},
    )
    assert choice(run) == [
        f"<b>unsecured</b>, <b>cat</b>{none}",
        "Left out: <b>at</b> (a check of it failed).",
    ]
    assert (
        "<b>at</b> (a check of it failed: see below): the strongest"
        in said(run, "What each defense saves")[0]
    )


def test_the_two_hardest_to_attack_are_compared_on_their_tuples(make_run):
    run = make_run(attacks=["pgd-8"])
    for model, count in (("unsecured", 20), ("at", 2), ("cat", 14)):
        set_ranks(run, model, "pgd-8", [each < count for each in range(20)])
    targets = read_table(run.tuples, schema.TUPLES)["target_id"].to_pylist()
    low, high = paired_difference([0] * 2 + [-1] * 12 + [0] * 6, targets)
    expected = f"60.0 points less (95 % interval {-100 * high:.1f} to {-100 * low:.1f})."
    assert (
        choice(run)[1]
        == f"In success, <b>at</b> against <b>cat</b>, the two hardest to attack: {expected}"
    )
    run.block("cat", "pgd-8", 2).unlink()
    assert "points less on the 16 tuples of both (95 %" in choice(run)[1]
    assert "points on the 16 tuples of both (95 %" in said(run, "What each defense saves")[1]


def test_what_a_model_was_trained_after_is_said(make_run):
    run = make_run(trained=True)
    epochs = len(read_table(run.history("at"), schema.HISTORY))
    sentence = said(run, "What it changes in recommendation quality")[0]
    assert f" Its training took {epochs} epochs after those of <b>unsecured</b>, " in sentence
    train_for(run, {"at": 1})
    sentence = said(run, "What it changes in recommendation quality")[0]
    assert " Its training took 1 epoch after those of <b>unsecured</b>, " in sentence


def test_training_is_no_reason_where_accuracies_are_equal(make_run):
    run = make_run(trained=True)
    train_for(run, {"unsecured": 4, "at": 5, "cat": 3})
    for model in ("unsecured", "at", "cat"):
        set_accuracy(run, model, 0.6)
    assert results.read(run).trained_longer == ["at", "cat"]
    assert "more training" not in " ".join(choice(run))


def train_for(run, epochs, *, start=None):
    """Histories of so many epochs by model; `start`: of the epochs of another model that all go on
    from, which is not compared.
    """
    write_json(run.preparation, {"splits": {"train": 96, "validation": 2, "test": 2}})
    text = run.study.read_text()
    if start is not None:
        text = text.replace(
            "models:\n", "models:\n  start: {defense: none, width: 0.5, compared: false}\n"
        )
        text = text.replace("init: unsecured", "init: start")
        text = text.replace("{defense: none, width: 0.5}", "{defense: none, init: start}")
        epochs = {"start": start, **epochs}
    write_text(run.study, text)
    for model, number in epochs.items():
        numbers = list(range(1, number + 1))
        columns = {field: numbers for field in schema.HISTORY.names}
        write_table(run.history(model), schema.table(schema.HISTORY, columns))


def test_accuracy_after_more_training_than_the_baseline_had_is_not_praised(make_run):
    run = make_run(trained=True)
    set_accuracy(run, "at", 0.99)
    run.preparation.unlink(missing_ok=True)
    # The number of articles, and so of steps, is not known.
    assert "points more" in said(run, "What it changes in recommendation quality")[0]
    train_for(run, {"unsecured": 4, "at": 5, "cat": 3})
    quality, cat = said(run, "What it changes in recommendation quality")
    assert "points" not in quality
    assert "points" not in cat  # it went on from unsecured
    assert (
        "With them it had 27 optimizer steps, <b>unsecured</b> only 12: the difference may come"
        in quality
    )
    more = "had more training than <b>unsecured</b>: that may be what makes"
    assert f"<b>at</b> {more} it accurate." in choice(run)  # cat is less accurate
    set_accuracy(run, "cat", 0.98)
    assert f"<b>at</b>, <b>cat</b> {more} them accurate." in choice(run)
    table = quality_table(results.read(run))
    assert "difference from unsecured (not of at, cat, trained longer)" in table.caption
    assert "points" not in str(table.rows)
    assert quantities.classifiers(results.read(run))["delta_points"].isna().all()


def test_accuracy_after_equal_training_is_compared(make_run):
    run = make_run(trained=True)
    set_accuracy(run, "at", 0.99)
    train_for(run, {"unsecured": 5, "at": 5, "cat": 3}, start=7)
    read = results.read(run)
    assert list(read.study.models) == ["unsecured", "at", "cat"]
    assert read.optimizer_steps == {"start": 21, "unsecured": 36, "at": 36, "cat": 30}
    assert "start" in set(quantities.training(read)["model"])
    quality = said(run, "What it changes in recommendation quality")[0]
    assert "31.0 points more" in quality
    assert "5 epochs after those of <b>start</b>, " in quality
    assert "optimizer steps" not in quality
    assert "more training" not in " ".join(choice(run))
    assert "longer" not in quality_table(read).caption
    deltas = quantities.classifiers(read).groupby("model")["delta_points"].count()
    assert deltas["unsecured"] == 0 < deltas["at"] == deltas["cat"]


def test_two_models_of_equal_numbers_are_both_a_choice(make_run):
    run = make_run()
    shutil.rmtree(run.attacks / "model=cat")
    shutil.copytree(run.attacks / "model=at", run.attacks / "model=cat")
    set_accuracy(run, "at", 0.9)
    set_accuracy(run, "cat", 0.9)
    assert choice(run)[0].startswith(
        "<b>at</b>, <b>cat</b>: by the measured values each other model is neither"
    )


def test_what_is_not_known_is_left_out_by_name(make_run):
    run = make_run()
    (run.model("at") / "metrics.json").unlink()
    assert choice(run)[1] == "Left out: <b>at</b> (accuracy not known)."
    (run.model("cat") / "metrics.json").unlink()
    assert choice(run) is None  # one model is no choice


@pytest.mark.long
@pytest.mark.usefixtures("quick")
def test_the_sentences_of_many_models_are_folded(make_run):
    run = make_run()
    assert "All 2 findings" not in write_report(results.read(run)).read_text(encoding="utf-8")
    extra = [f"cat{number}" for number in range(5)]
    for name in extra:
        shutil.copytree(run.model("cat"), run.model(name))
        shutil.copytree(run.attacks / "model=cat", run.attacks / f"model={name}")
    lines = "".join(f"  {name}: {{defense: cat, width: 0.5, init: unsecured}}\n" for name in extra)
    run.study.write_text(run.study.read_text().replace("evaluation:", lines + "evaluation:"))
    page = write_report(results.read(run)).read_text(encoding="utf-8")
    assert page.count("<summary>All 7 findings</summary>") == 2
    assert (
        page.index("How exposed")
        < page.index("<summary>All 7 findings")
        < page.index("<b>cat2</b>: the strongest attack on it")
    )


@pytest.mark.long
def test_chance_equals_a_naive_count(make_run):
    run = make_run()
    catalog = read_table(run.catalog, schema.CATALOG).to_pydict()
    catalog["category"] = ["shoe"] * 5 + ["bag"] * 10 + ["hat"] * 15
    catalog["split"] = (["train", "test", "test", "test", "test"] * 6)[:30]
    write_table(run.catalog, schema.table(schema.CATALOG, catalog))
    largest, same = quantities.chance(results.read(run))
    test = [
        name
        for name, split in zip(catalog["category"], catalog["split"], strict=True)
        if split == "test"
    ]
    assert largest == pytest.approx(100 * Counter(test).most_common(1)[0][1] / len(test))
    pairs = [(a, b) for a in range(30) for b in range(30) if a != b]
    assert same == pytest.approx(
        100 * np.mean([catalog["category"][a] == catalog["category"][b] for a, b in pairs])
    )
    assert "For scale: always naming the largest category" in write_report(
        results.read(run)
    ).read_text(encoding="utf-8")
