"""Who is exposed, to what and how fast: against naive loops over the rows; distances against lines that are known."""

import numpy as np
import pandas as pd
import pytest

from advrec import schema
from advrec.errors import ConfigError
from advrec.evaluation.rates import clustered
from advrec.reports import distances, exposure, gallery, results, tables
from advrec.reports.against import against
from advrec.reports.report import write_report
from advrec.store import read_outcomes, read_table, write_table


def rows_of(run):
    return read_outcomes(run.attacks).to_pylist()


def test_the_worst_case_is_the_union_over_attacks(make_run):
    run = make_run(attacks=["fgsm", "pgd-8", "pgd-32"], skip=[("at", "pgd-32", 1)])
    made = exposure.worst_case(results.read(run))
    assert len(made) == 3 * 2
    rows = rows_of(run)
    for row in made.to_dict("records"):
        cell = [r for r in rows if (r["model"], r["epsilon"]) == (row["model"], row["epsilon"])]
        tried = [t for t in range(20) if len([r for r in cell if r["tuple_id"] == t]) == 3]
        won = [any(r["adversarial_rank"] <= 3 for r in cell if r["tuple_id"] == t) for t in tried]
        targets = [next(r["target_id"] for r in cell if r["tuple_id"] == t) for t in tried]
        assert (row["n"], row["successes"], row["attacks"]) == (len(tried), sum(won), 3)
        np.testing.assert_allclose([row["low_percent"], row["high_percent"]], 100 * np.array(clustered(won, targets)))
    assert set(made["n"]) == {20, 12}  # a tuple that one attack has not seen says nothing of all
    best = tables.headline(results.read(run)).groupby("model")["successes"].max()
    assert (made[made["epsilon"] == 0.05].set_index("model")["successes"].loc[["unsecured", "cat"]] >= best[["unsecured", "cat"]]).all()


def test_categories_equal_a_naive_loop(make_run):
    run = make_run(tuples=40, block=40)
    catalog = read_table(run.catalog, schema.CATALOG).to_pydict()
    catalog["category"] = [f"c{article % 5}" for article in range(30)]
    write_table(run.catalog, schema.table(schema.CATALOG, catalog))
    read = results.read(run)
    strongest = tables.strongest(read)
    made = exposure.categories(read, strongest)
    for side in ("attack", "target"):
        own = made[(made["model"] == "cat") & (made["side"] == side)].set_index("category")
        cell = [r for r in rows_of(run) if (r["model"], r["attack"], r["epsilon"]) == ("cat", strongest["cat"]["attack"], 0.05)]
        assert own["n"].sum() == 40
        for category in own.index:
            inside = [r["adversarial_rank"] <= 3 for r in cell if f"c{r[f'{side}_id'] % 5}" == category]
            assert (own.loc[category, "n"], own.loc[category, "successes"]) == (len(inside), sum(inside))
        assert own["percent"].is_monotonic_decreasing


def test_convergence_counts_the_steps_of_smaller_budgets_too(make_run):
    run = make_run(attacks=["pgd-8", "auto"])
    path = run.block("at", "auto", 0)
    rng = np.random.default_rng(0)
    for block in range(3):
        path = run.block("at", "auto", block)
        rows = read_table(path, schema.OUTCOMES).to_pydict()
        rows["gradient_steps"] = rng.integers(0, 90, len(rows["tuple_id"]))
        write_table(path, schema.table(schema.OUTCOMES, rows))
    made = exposure.convergence(results.read(run))
    rows = [r for r in rows_of(run) if (r["model"], r["attack"]) == ("at", "auto")]
    spent = {t: sum(r["gradient_steps"] for r in rows if r["tuple_id"] == t) for t in range(20)}
    solved = {r["tuple_id"]: r["adversarial_rank"] <= 3 for r in rows if r["epsilon"] == 0.05}
    curve = made[(made["model"] == "at") & (made["attack"] == "auto")]
    assert len(curve) > 10
    for row in curve.to_dict("records"):
        assert row["successes"] == sum(solved[t] and spent[t] <= row["gradient_steps"] for t in range(20))
    assert curve["successes"].iloc[-1] == sum(solved.values())
    point = made[(made["model"] == "at") & (made["attack"] == "pgd-8")]
    assert (point["gradient_steps"].tolist(), point["n"].tolist()) == ([8], [20])


def test_a_quantile_line_is_found_and_has_its_share_below():
    rng = np.random.default_rng(0)
    x = rng.uniform(0.2, 0.9, 400)
    exact = distances.fit(x, 0.1 + 0.5 * x, 0.5)
    np.testing.assert_allclose(exact, (0.1, 0.5), atol=1e-6)
    y = 0.1 + 0.5 * x + rng.exponential(0.05, 400)
    for quantile in distances.QUANTILES:
        intercept, slope = distances.fit(x, y, quantile)
        assert np.mean(y < intercept + slope * x) == pytest.approx(quantile, abs=0.01)


def test_distances_are_of_the_attack_that_gets_nearest_and_never_stops(make_run):
    run = make_run(attacks=["fgsm", "pgd-32", "auto"])
    read = results.read(run)
    made = distances.pairs(read, tables.strongest(read))
    assert set(made["attack"]) == {"pgd-32"}  # auto is stronger, but its distances end at the threshold
    assert len(made) == 3 * 20
    assert len(distances.quantile_lines(made)) == 0  # all stood equally far before: no line


def test_an_injected_article_stands_at_its_rank(finished):
    read = results.read(finished)
    kept = gallery.kept_examples(read)
    examples = gallery.example_images(kept, tables.strongest(read), read.epsilon)
    made = gallery.injections(read, examples)
    assert set(made) == {"unsecured", "at", "cat"}
    for injection in made.values():
        example = injection.example
        listed = next(
            row["neighbours"] for row in read.lists[example.model].to_dict("records") if row["article_id"] == example.target_id
        )
        vectors = np.array(read_table(finished.embeddings(example.model), schema.embeddings(8)).to_pydict()["embedding"])
        target = vectors[example.target_id]
        expected = [1 - v @ target / np.linalg.norm(v) / np.linalg.norm(target) for v in vectors[listed[:5]]]
        np.testing.assert_allclose([place.distance for place in injection.before], expected, atol=1e-6)
        places = [place.attacked for place in injection.after]
        if example.adversarial_rank <= 5:
            assert places.index(True) == example.adversarial_rank - 1
            assert injection.after[example.adversarial_rank - 1].distance == example.adversarial_distance
        assert sum(places) == (example.adversarial_rank <= 5)
        assert len(injection.before) == len(injection.after) == 5


def test_kept_images_are_those_of_whole_tuples_within_the_limit(finished):
    read = results.read(finished)
    kept = gallery.kept_examples(read)
    assert [example.tuple_id for example in kept] == [0] * 12 + [1] * 12  # 3 models x 2 attacks x 2 budgets
    assert {example.tuple_id for example in gallery.kept_examples(read, limit=23)} == {0}
    assert len(gallery.kept_examples(read, limit=1)) == 12  # of one at least
    grown = gallery.growing(kept, tables.strongest(read))
    assert [(e.tuple_id, e.epsilon) for e in grown["at"]] == [(0, 0.01), (0, 0.05)]


def test_two_runs_are_compared_on_the_tuples_that_both_have(make_run):
    short = [(model, attack, 2) for model in ("unsecured", "at", "cat") for attack in ("fgsm", "pgd-8")]
    run, other = make_run("one"), make_run("two", attacks=["pgd-8", "fgsm"], skip=short)
    made = against(results.read(run), results.read(other)).set_index(["model", "attack", "epsilon"])
    assert len(made) == 3 * 2 * 2
    names = read_table(run.catalog, schema.CATALOG)["name"].to_pylist()
    keyed = [
        {(names[r["target_id"]], names[r["attack_id"]], r["epsilon"]): r["adversarial_rank"] <= 3 for r in reversed(rows_of(each))
         if (r["model"], r["attack"]) == ("cat", "pgd-8")}
        for each in (run, other)
    ]  # fmt: skip
    both = [key for key in keyed[0] if key in keyed[1] and key[2] == 0.05]
    row = made.loc[("cat", "pgd-8", 0.05)]
    assert row["n"] == len(both) == 16
    assert row["only_here"] == sum(keyed[0][key] and not keyed[1][key] for key in both)
    assert row["only_other"] == sum(keyed[1][key] and not keyed[0][key] for key in both)
    assert row["difference_points"] == pytest.approx(row["percent"] - row["other_percent"])
    same = against(results.read(run), results.read(run))
    assert (same["p_value"] == 1).all()
    assert (same["difference_points"] == 0).all()


@pytest.mark.usefixtures("quick")
def test_the_page_shows_the_comparison_only_when_asked(make_run):
    run, other = make_run("one"), make_run("two")
    assert "Compared with two" in write_report(run, other=other).read_text(encoding="utf-8")
    assert (run.report / "tables" / "against.csv").exists()
    assert "Compared with" not in write_report(run).read_text(encoding="utf-8")
    assert not (run.report / "tables" / "against.csv").exists()


def test_runs_that_share_nothing_are_refused(make_run):
    run, other = make_run("one"), make_run("two", epsilons=(0.02,))
    with pytest.raises(ConfigError, match="shares no model, attack, budget and tuple"):
        write_report(run, other=other)


@pytest.mark.usefixtures("quick")
def test_classifiers_are_shown_with_their_difference(make_run):
    run = make_run()
    write_report(run)
    made = pd.read_csv(run.report / "tables" / "classifiers.csv").set_index(["model", "quantity"])
    assert made.loc[("at", "clean_accuracy"), "delta_points"] == pytest.approx(-12.0)
    assert np.isnan(made.loc[("unsecured", "clean_accuracy"), "delta_points"])
