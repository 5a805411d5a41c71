"""Checks, deliveries, ensembles and models of one's own in a report: tables against plain loops,
and what page and text say.
"""

import html
import itertools

import numpy as np
import pandas as pd
import pytest

from advrec.errors import ConfigError
from advrec.evaluation.rates import clustered
from advrec.reports import results, terminal
from advrec.reports.tables import checks, success
from advrec.reports.tables.rows import DASH
from advrec.run import schema
from advrec.run.files import write_json, write_table
from advrec.run.tables import read_outcomes, read_table
from tests.reports.conftest import HEALTH
from tests.reports.test_report import Page, csv, page_of

AUTO = {"name": "auto", "attack": "auto"}
RESTARTED = {"name": "again", "attack": "apgd-20", "restarts": 2, "stop": "rank-1", "nested": True}
TRANSFER = {"name": "moved", "attack": "pgd-8", "from": "at"}
DELIVERED = ("float", "png", "jpeg-90")


def text_of(run, **options):
    return html.unescape(Page(page_of(run, **options)).text).replace("\u00a0", " ")


def probe(run, model, attack, change):
    """Rewrite the rows of a check."""
    for path in run.block(model, attack, 0, "checks").parent.iterdir():
        rows = read_table(path, schema.OUTCOMES).to_pandas()
        write_table(path, schema.table(schema.OUTCOMES, change(rows).to_dict("list")))


def test_delivered_equals_a_naive_recomputation(finished):
    rows = read_outcomes(finished.attacks, schema.outcomes(DELIVERED[1:])).to_pylist()
    made = csv(finished, "delivered")
    assert len(made) == 3 * 2 * 2 * 3
    columns = {
        "float": "adversarial_rank",
        "png": "adversarial_rank_png",
        "jpeg-90": "adversarial_rank_jpeg_90",
    }
    keys = itertools.product(("unsecured", "at", "cat"), ("fgsm", "pgd-8"), (0.01, 0.05), columns)
    for row, (model, attack, epsilon, delivery) in zip(made.to_dict("records"), keys, strict=True):
        assert (row["model"], row["attack"], row["epsilon"], row["delivery"], row["rank"]) == (
            model,
            attack,
            epsilon,
            delivery,
            3,
        )
        cell = [
            r for r in rows if (r["model"], r["attack"], r["epsilon"]) == (model, attack, epsilon)
        ]
        won = [r[columns[delivery]] <= 3 for r in cell]
        hits = sum(won)
        _, low, high = clustered(won, [r["target_id"] for r in cell])
        assert (row["n"], row["successes"]) == (20, hits)
        np.testing.assert_allclose(
            [row["percent"], row["low_percent"], row["high_percent"]],
            [5 * hits, 100 * low, 100 * high],
        )
        before = [r[columns[delivery].replace("adversarial", "clean")] <= 3 for r in cell]
        assert row["clean_percent"] == pytest.approx(5 * sum(before))
    assert made.groupby("delivery")["successes"].sum().nunique() == 3


@pytest.mark.usefixtures("quick")
def test_winners_equal_a_naive_recomputation(make_run):
    run = make_run(attacks=["fgsm", AUTO, RESTARTED])
    page = text_of(run)
    rows = read_outcomes(run.attacks).to_pylist()
    made = csv(run, "winners").to_dict("records")
    assert len(made) == 3 * 2 * 2 * 3
    for row in made:
        cell = [
            r for r in rows if all(r[key] == row[key] for key in ("model", "attack", "epsilon"))
        ]
        own = [r["winner"] == row["winner"] for r in cell]
        _, low, high = clustered(own, [r["target_id"] for r in cell])
        won = sum(own)
        assert (row["n"], row["successes"]) == (20, won)
        np.testing.assert_allclose([row["percent"], row["low_percent"]], [5 * won, 100 * low])
        assert row["high_percent"] == pytest.approx(100 * high)
    assert {row["winner"] for row in made if row["attack"] == "again"} == {
        "apgd-20",
        "apgd-20 restart 1",
        "apgd-20 restart 2",
    }
    shown = success.winners(results.read(run), restarts_as_one=True)
    apart = (
        pd.DataFrame(made)
        .query("attack == 'again' and model == 'cat' and epsilon == 0.05")
        .set_index("winner")["successes"]
    )
    merged = shown.query("attack == 'again' and model == 'cat' and epsilon == 0.05").set_index(
        "winner"
    )["successes"]
    assert merged["apgd-20, restarted"] == apart.drop("apgd-20").sum()
    assert "Which attack made the image" in page
    assert "apgd-20, restarted" in page


@pytest.mark.usefixtures("quick")
def test_cost_names_the_settings_and_counts_what_was_inherited(make_run):
    run = make_run(attacks=["fgsm", AUTO, RESTARTED, TRANSFER])
    page = text_of(run)
    rows = read_outcomes(run.attacks).to_pylist()
    made = csv(run, "cost")
    settings = (
        made[made["model"] == "cat"]
        .set_index("attack")[["stop", "nested", "restarts", "from"]]
        .astype(object)
    )
    assert settings.loc["fgsm"].fillna("").tolist() == ["never", False, 0, ""]
    assert settings.loc["auto"].fillna("").tolist() == ["rank-1", True, 0, ""]
    assert settings.loc["again"].fillna("").tolist() == ["rank-1", True, 2, ""]
    assert settings.loc["moved"].fillna("").tolist() == ["never", False, 0, "at"]
    for row in made.to_dict("records"):
        cell = [r for r in rows if (r["model"], r["attack"]) == (row["model"], row["attack"])]
        assert row["inherited"] == sum(r["inherited"] for r in cell)
    assert made.set_index("attack").loc["auto", "inherited"].min() > 0
    assert "Distances of auto, again end at the threshold" in page
    assert "apgd-20, 2 restarts" in page


@pytest.mark.usefixtures("quick")
def test_a_transfer_says_what_it_was_made_on(make_run):
    run = make_run(attacks=["fgsm", TRANSFER])
    page = text_of(run)
    assert "moved (made on at)" in page
    assert "pgd-8, made on at" in page
    assert "the strongest attack of this study, moved (made on at), brings" in page
    assert "moved: made on at" in terminal.comparison_text(results.read(run))
    assert not csv(run, "winners").size


def test_a_healthy_run_shows_its_checks_between_comparison_and_success(finished):
    text = html.unescape(Page((finished.report / "index.html").read_text(encoding="utf-8")).text)
    assert (
        text.index("Defenses compared")
        < text.index("Can these numbers be trusted?")
        < text.index("Success against budget")
    )
    assert "Checks: 39 passed, 0 failed, 3 for information." in text
    assert "first 12 tuples" in text
    made = csv(finished, "checks")
    assert made["model"].tolist() == ["unsecured"] * 14 + ["at"] * 14 + ["cat"] * 14
    assert set(made["verdict"]) == {"passed", "information"}
    assert "FAILED" not in terminal.comparison_text(results.read(finished))
    assert "Checks: 39 passed, 0 failed" in terminal.comparison_text(results.read(finished))


@pytest.mark.usefixtures("quick")
def test_a_failed_check_is_in_banner_page_text_and_table(make_run):
    run = make_run(checks=12)
    write_json(run.health("at"), HEALTH | {"mean_cosine": 0.991, "effective_rank": 1.4})
    for model in ("at", "unsecured"):
        probe(
            run,
            model,
            "fgsm",
            lambda rows: rows.assign(
                adversarial_distance=rows["adversarial_distance"] + np.float32(0.01)
            ),
        )
    raw = page_of(run)
    banner = html.unescape(Page(raw[raw.index('class="banner"') : raw.index("<main>")]).text)
    named = (
        "3 of 39 checks failed: no budget, no change (unsecured, at); "
        "embeddings are spread out (at)."
    )
    assert named in banner
    warning = (
        "at: embeddings are spread out: mean cosine of two articles 0.991, "
        "effective rank 1.4 of 1280, n = 30. "
        "Embeddings have collapsed: ranks turn on tiny differences of distance"
    )
    assert warning in banner
    assert html.unescape(Page(raw[raw.index("<main>") :]).text).count(warning) == 1
    assert raw.count('<td class="alarm">FAILED') == 3
    lines = terminal.comparison_text(results.read(run)).splitlines()
    assert max(map(len, lines)) <= 100
    said = " ".join(line.strip() for line in lines)
    assert "Checks: 36 passed, 3 failed" in said
    assert f"FAILED on {warning}" in said
    failed = csv(run, "checks").query("verdict == 'failed'")
    assert failed["model"].tolist() == ["unsecured", "at", "at"]
    assert failed["remedy"].str.contains("evaluation mode|train differently").all()


@pytest.mark.usefixtures("quick")
def test_probes_of_another_study_do_not_count(make_run):
    run = make_run(checks=12)
    before = checks.verdicts(results.read(run))
    foreign = {
        "tuple_id": lambda rows: rows["tuple_id"] + 12,
        "epsilon": lambda rows: rows["epsilon"] + 0.001,
    }
    for number, (column, value) in enumerate(foreign.items()):
        rows = read_table(run.block("at", "apgd-50", 0, "checks"), schema.OUTCOMES).to_pandas()
        rows = rows.assign(adversarial_rank=30, linf=np.float32(0.9), **{column: value(rows)})
        path = run.block("at", "apgd-50", 7 + number, "checks")
        write_table(path, schema.table(schema.OUTCOMES, rows.to_dict("list")))
    pd.testing.assert_frame_equal(checks.verdicts(results.read(run)), before)


@pytest.mark.usefixtures("quick")
def test_what_was_not_measured_is_said(make_run):
    run = make_run(checks=12)
    run.health("cat").unlink()
    for model in ("unsecured", "at", "cat"):
        for block in (0, 1):
            run.block(model, "mifgsm-100", block, "checks").unlink()
    text = text_of(run)
    assert "Checks incomplete: 6 of their blocks are missing" in text
    assert "Checks: 33 passed, 0 failed, 6 not measured, 3 for information." in text
    missing = csv(run, "checks").query("verdict == 'not measured'")
    assert missing["check"].tolist() == ["without a limit nearly all succeed"] * 3 + [
        "gradients are not zero",
        "two forward passes agree",
        "embeddings are spread out",
    ]
    assert missing["measured"].isna().all()
    assert missing["remedy"].str.contains("advrec evaluate").all()


@pytest.mark.usefixtures("quick")
def test_a_study_without_checks_and_deliveries_says_so(make_run):
    run = make_run()
    raw = page_of(run)
    assert 'class="banner"' not in raw
    text = Page(raw).text
    assert "The checks are switched off" in text
    assert "Does it survive your pipeline?" not in text
    assert "Which attack made the image" not in text
    assert "end at the threshold" not in text
    assert not any(csv(run, name).size for name in ("checks", "delivered", "winners"))
    said = " ".join(terminal.comparison_text(results.read(run)).split())
    assert "The checks are switched off (evaluation.checks is 0)" in said


@pytest.mark.usefixtures("quick")
def test_a_partial_run_without_any_probe_is_shown(make_run):
    run = make_run(
        checks=12,
        delivery=DELIVERED,
        attacks=["fgsm", AUTO],
        skip=[("at", "auto", b) for b in range(3)],
    )
    for path in run.checks.rglob("*.parquet"):
        path.unlink()
    with pytest.raises(ConfigError, match="3 of 18 blocks are missing"):
        page_of(run)
    text = text_of(run, partial=True)
    assert "Checks incomplete: 48 of their blocks are missing" in text
    assert "Does it survive your pipeline?" in text
    made = csv(run, "checks")
    measured = {
        "budget and box are kept",
        "gradients are not zero",
        "two forward passes agree",
        "embeddings are spread out",
    }
    assert set(made.query("verdict == 'passed'")["check"]) == measured
    assert ("at", "auto") not in set(csv(run, "delivered").groupby(["model", "attack"]).groups)


@pytest.mark.usefixtures("quick")
def test_rows_of_an_earlier_version_are_still_reported(make_run):
    run = make_run(attacks=["fgsm", AUTO])
    for path in run.attacks.rglob("*.parquet"):
        table = read_table(path, schema.OUTCOMES)
        write_table(path, table.drop_columns(["winner", "inherited"]))
    page_of(run)
    assert csv(run, "cost")["inherited"].sum() == 0
    assert set(csv(run, "winners")["winner"]) == {"auto"}


def own_model(run, names):
    """Turn models of a run into ones that were trained elsewhere."""
    text = run.study.read_text()
    for name in names:
        line = next(line for line in text.splitlines() if line.strip().startswith(f"{name}:"))
        text = text.replace(line, f"  {name}: {{model: shop.nets:{name}}}")
        (run.model(name) / "metrics.json").unlink()
    run.study.write_text(text)


@pytest.mark.usefixtures("quick")
def test_a_model_of_ones_own_has_dashes_for_its_quality(make_run):
    run = make_run(checks=12)
    own_model(run, ["cat"])
    text = text_of(run)
    assert "defense: none; not trained here" in text
    assert "cat: not known" not in text  # it has no defense that could change its quality
    assert np.isnan(
        csv(run, "defense_comparison").set_index("model").loc["cat", "clean_accuracy_percent"]
    )
    line = next(
        line
        for line in terminal.comparison_text(results.read(run)).splitlines()
        if line.startswith("clean accuracy")
    )
    assert line.rstrip().endswith(DASH)


@pytest.mark.long
def test_a_study_of_own_models_alone_has_a_report_with_figures(make_run):
    run = make_run(checks=12)
    own_model(run, ["cat", "at", "unsecured"])
    assert "the strongest attack of this study, pgd-8, brings" in text_of(run)
    assert csv(run, "defense_comparison")["clean_accuracy_percent"].isna().all()
