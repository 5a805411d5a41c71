"""Who is exposed, to what and how fast: against naive loops over the rows; distances against lines
that are known.
"""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from advrec.errors import ConfigError
from advrec.evaluation.rates import clustered, paired_difference
from advrec.reports import results, terminal
from advrec.reports.page import tiles
from advrec.reports.pictures import figures, gallery
from advrec.reports.report import write_report
from advrec.reports.tables import convergence, distances, exposure, success
from advrec.reports.tables.against import against, compare, differences
from advrec.run import schema
from advrec.run.files import write_table
from advrec.run.tables import read_outcomes, read_table


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
        np.testing.assert_allclose(
            [row["low_percent"], row["high_percent"]], 100 * np.array(clustered(won, targets)[1:])
        )
    assert set(made["n"]) == {20, 12}  # a tuple that one attack has not seen says nothing of all
    best = success.headline(results.read(run)).groupby("model")["successes"].max()
    assert (
        made[made["epsilon"] == 0.05].set_index("model")["successes"].loc[["unsecured", "cat"]]
        >= best[["unsecured", "cat"]]
    ).all()


def test_categories_equal_a_naive_loop(make_run):
    run = make_run(tuples=40, block=40)
    catalog = read_table(run.catalog, schema.CATALOG).to_pydict()
    catalog["category"] = [f"c{article % 5}" for article in range(30)]
    write_table(run.catalog, schema.table(schema.CATALOG, catalog))
    read = results.read(run)
    strongest = success.strongest(read)
    made = exposure.categories(read, strongest)
    for side in ("attack", "target"):
        own = made[(made["model"] == "cat") & (made["side"] == side)].set_index("category")
        cell = [
            r
            for r in rows_of(run)
            if (r["model"], r["attack"], r["epsilon"]) == ("cat", strongest["cat"]["attack"], 0.05)
        ]
        assert own["n"].sum() == 40
        for category in own.index:
            inside = [
                r["adversarial_rank"] <= 3 for r in cell if f"c{r[f'{side}_id'] % 5}" == category
            ]
            assert (own.loc[category, "n"], own.loc[category, "successes"]) == (
                len(inside),
                sum(inside),
            )
        assert own["low_percent"].is_monotonic_decreasing


def test_a_category_of_one_tuple_does_not_lead(make_run):
    run = make_run(tuples=40, block=40)
    tuples, outcomes = read_table(run.tuples, schema.TUPLES).to_pydict(), rows_of(run)
    solved = next(
        r["tuple_id"]
        for r in outcomes
        if (r["model"], r["attack"], r["epsilon"]) == ("unsecured", "pgd-8", 0.05)
        and r["adversarial_rank"] <= 3
        and tuples["attack_id"].count(r["attack_id"]) == 1
    )
    catalog = read_table(run.catalog, schema.CATALOG).to_pydict()
    catalog["category"] = [
        "rare" if article == tuples["attack_id"][solved] else "common" for article in range(30)
    ]
    write_table(run.catalog, schema.table(schema.CATALOG, catalog))
    read = results.read(run)
    made = exposure.categories(read, success.strongest(read)).query(
        "model == 'unsecured' and side == 'attack'"
    )
    assert made["category"].tolist() == ["common", "rare"]
    assert made["percent"].tolist()[0] < 100 == made["percent"].tolist()[1]


def test_convergence_counts_the_steps_of_smaller_budgets_too(make_run):
    run = make_run(attacks=["pgd-8", "auto-1"], epsilons=(0.01, 0.03, 0.05))
    rng = np.random.default_rng(0)
    # at is attacked at 0.05 too, but the headline's budget is the largest that all have
    for model in ("unsecured", "cat"):
        for attack in ("pgd-8", "auto-1"):
            for block in range(3):
                rows = read_table(run.block(model, attack, block), schema.OUTCOMES).to_pandas()
                kept = rows[rows["epsilon"] < 0.05]
                write_table(
                    run.block(model, attack, block),
                    schema.table(schema.OUTCOMES, {n: kept[n].to_numpy() for n in kept}),
                )
    for block in range(3):
        path = run.block("at", "auto-1", block)
        rows = read_table(path, schema.OUTCOMES).to_pydict()
        rows["gradient_steps"] = rng.integers(0, 90, len(rows["tuple_id"]))
        write_table(path, schema.table(schema.OUTCOMES, rows))
    made = convergence.convergence(results.read(run))
    rows = [r for r in rows_of(run) if (r["model"], r["attack"]) == ("at", "auto-1")]
    spent = {
        t: sum(r["gradient_steps"] for r in rows if r["tuple_id"] == t and r["epsilon"] < 0.05)
        for t in range(20)
    }
    solved = {r["tuple_id"]: r["adversarial_rank"] == 1 for r in rows if r["epsilon"] == 0.03}
    assert 0 < sum(solved.values()) < 20
    curve = made[(made["model"] == "at") & (made["attack"] == "auto-1")]
    assert len(curve) > 10
    for row in curve.to_dict("records"):
        assert row["successes"] == sum(
            solved[t] and spent[t] <= row["gradient_steps"] for t in range(20)
        )
    assert curve["successes"].iloc[-1] == sum(solved.values())
    point = made[(made["model"] == "at") & (made["attack"] == "pgd-8")]
    assert (point["gradient_steps"].tolist(), point["n"].tolist()) == ([8], [20])


def test_convergence_of_an_attack_on_all_budgets_at_once_counts_them_all(make_run):
    run = make_run(attacks=["auto"], epsilons=(0.01, 0.03, 0.05))
    made = convergence.convergence(results.read(run)).set_index("model")
    for model, row in made.iterrows():
        rows = [r for r in rows_of(run) if r["model"] == model]
        spent = pd.DataFrame(rows).groupby("tuple_id")["gradient_steps"].sum()
        assert row["gradient_steps"] == spent.max()
        assert row["successes"] == sum(
            r["adversarial_rank"] == 1 for r in rows if r["epsilon"] == row["epsilon"]
        )
    assert len(made) == 3


def test_an_attack_that_looks_at_deliveries_stops_elsewhere(make_run):
    blind = {"name": "blind", "attack": "auto", "through": []}
    run = make_run(attacks=["pgd-8", blind], delivery=("float", "png"))
    path = run.block("at", "blind", 0)
    rows = read_table(path, schema.OUTCOMES).to_pydict()
    rows["gradient_steps"] = list(range(len(rows["tuple_id"])))
    write_table(path, schema.table(schema.OUTCOMES, rows))
    made = convergence.convergence(results.read(run))
    assert len(made) == 3 * 2  # a point each


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
    made = distances.pairs(read, success.strongest(read))
    # auto is stronger, but its distances end at the threshold
    assert set(made["attack"]) == {"pgd-32"}
    assert len(made) == 3 * 20
    lines = distances.quantile_lines(made)
    assert len(lines) == 3 * 3
    figure = figures.distances(made, lines, ["unsecured", "at", "cat"], "wide")
    row = lines.query("model == 'at' and quantile == 0.9").iloc[0]
    drawn = next(line for line in figure.axes[1].get_lines() if line.get_label() == "90% quantile")
    np.testing.assert_allclose(
        drawn.get_ydata(), row["intercept"] + row["slope"] * np.asarray(drawn.get_xdata())
    )
    same = made.assign(clean_distance=0.6)
    assert distances.quantile_lines(same).empty  # all stood equally far before: no line


@pytest.mark.parametrize(
    ("rank", "was_listed"), [(1, False), (3, False), (5, True), (6, False), (900, True)]
)
def test_an_injected_article_stands_at_its_rank(make_run, rank, was_listed):
    run = make_run(trained=True)
    vectors = np.array(
        read_table(run.embeddings("at"), schema.embeddings(8)).to_pydict()["embedding"]
    )
    read = results.read(run)
    strongest = success.strongest(read)
    kept = [
        e
        for e in gallery.kept_examples(read)
        if (e.model, e.attack, e.epsilon) == ("at", strongest["at"]["attack"], 0.05)
    ]
    distance = 1 - vectors @ vectors[kept[0].target_id] / np.linalg.norm(
        vectors, axis=1
    ) / np.linalg.norm(vectors[kept[0].target_id])
    near = [int(article) for article in np.argsort(distance) if article != kept[0].target_id]
    example = dataclasses.replace(
        kept[0],
        attack_id=near[2] if was_listed else near[20],
        adversarial_rank=rank,
        adversarial_distance=0.25,
    )
    made = gallery.injections(read, [example], strongest)["at"]
    np.testing.assert_allclose(
        [place.distance for place in made.before], distance[near[:5]], atol=1e-6
    )
    others = [article for article in near if article != example.attack_id]
    expected = [distance[article] for article in others]
    if rank <= 5:
        expected.insert(rank - 1, 0.25)
    np.testing.assert_allclose([place.distance for place in made.after], expected[:5], atol=1e-6)
    assert [place.attacked for place in made.after] == [place == rank for place in range(1, 6)]


def test_the_list_shown_is_of_the_first_tuple_that_reaches_it(make_run):
    run = make_run(trained=True)
    read = results.read(run)
    kept = [
        dataclasses.replace(e, adversarial_rank=2 if e.tuple_id == 1 else 7)
        for e in gallery.kept_examples(read)
    ]
    assert {
        made.example.tuple_id
        for made in gallery.injections(read, kept, success.strongest(read)).values()
    } == {1}
    kept = [dataclasses.replace(e, adversarial_rank=7) for e in kept]
    assert {
        made.example.tuple_id
        for made in gallery.injections(read, kept, success.strongest(read)).values()
    } == {0}


def test_kept_images_are_those_of_whole_tuples_within_the_limit(finished):
    read = results.read(finished)
    kept = gallery.kept_examples(read)
    # 3 models x 2 attacks x 2 budgets
    assert [example.tuple_id for example in kept] == [0] * 12 + [1] * 12
    assert {example.tuple_id for example in gallery.kept_examples(read, limit=23)} == {0}
    assert len(gallery.kept_examples(read, limit=1)) == 12  # of one at least
    grown = gallery.growing(kept, success.strongest(read))
    assert [(e.tuple_id, e.epsilon) for e in grown["at"]] == [(0, 0.01), (0, 0.05)]
    taken = tiles.budget_strip(
        read, "at", [grown["at"][0], dataclasses.replace(grown["at"][1], inherited=True)]
    ).rows[0][1]
    assert ["the image of a smaller budget" in caption for _, caption, _, _ in taken] == [
        False,
        False,
        True,
        False,
    ]


def test_two_runs_are_compared_on_the_tuples_that_both_have(make_run):
    short = [
        (model, attack, 2) for model in ("unsecured", "at", "cat") for attack in ("fgsm", "pgd-8")
    ]
    run, other = make_run("one"), make_run("two", attacks=["pgd-8", "fgsm"], skip=short)
    made = against(results.read(run), results.read(other)).set_index(["model", "attack", "epsilon"])
    assert len(made) == 3 * 2 * 2
    names = read_table(run.catalog, schema.CATALOG)["name"].to_pylist()
    keyed = [
        {
            (names[r["target_id"]], names[r["attack_id"]], r["epsilon"]): r["adversarial_rank"] <= 3
            for r in reversed(rows_of(each))
            if (r["model"], r["attack"]) == ("cat", "pgd-8")
        }
        for each in (run, other)
    ]
    both = [key for key in keyed[0] if key in keyed[1] and key[2] == 0.05]
    row = made.loc[("cat", "pgd-8", 0.05)]
    assert row["n"] == len(both) == 16
    assert row["only_here"] == sum(keyed[0][key] and not keyed[1][key] for key in both)
    assert row["only_other"] == sum(keyed[1][key] and not keyed[0][key] for key in both)
    assert row["difference_points"] == pytest.approx(row["percent"] - row["other_percent"])
    changes = [int(keyed[0][key]) - int(keyed[1][key]) for key in both]
    expected = paired_difference(changes, [key[0] for key in both])
    np.testing.assert_allclose([row["low_points"], row["high_points"]], 100 * np.array(expected))
    same = against(results.read(run), results.read(run))
    assert (same["p_value"] == 1).all()
    assert (same["difference_points"] == 0).all()


def test_what_else_differs_between_two_runs_is_said(make_run):
    settings = {
        "name": "fast",
        "attack": "apgd-20",
        "stop": "never",
        "nested": False,
        "restarts": 0,
        "from": None,
    }
    run = make_run("one", attacks=["fgsm", settings])
    other = make_run(
        "two", attacks=["fgsm", settings | {"restarts": 2}], articles=40, skip=[("at", "fgsm", 1)]
    )
    said = differences(results.read(run), results.read(other))
    assert said[0] == "Of one name but with other settings: fast."
    assert "30 and 40 articles" in said[1]
    assert "1 of its 18 blocks are missing" in said[2]
    assert differences(results.read(run), results.read(run)) == []
    run.study.write_text(
        run.study.read_text().replace(
            "at: {defense: at, width: 0.5,", "at: {defense: at, width: 0.5, epsilon: 0.02,", 1
        )
    )
    assert "The model at differs in epsilon (0.02 here, 0.03 there)." in differences(
        results.read(run), results.read(other)
    )


@pytest.mark.usefixtures("quick")
def test_the_page_shows_the_comparison_only_when_asked(make_run):
    run, other = make_run("one"), make_run("two")
    compared = compare(results.read(run), results.read(other))
    assert f"Compared with {other.directory}" in write_report(
        results.read(run), compared=compared
    ).read_text(encoding="utf-8")
    assert (run.report / "tables" / "against.csv").exists()
    assert "Compared with" not in write_report(results.read(run)).read_text(encoding="utf-8")
    assert not (run.report / "tables" / "against.csv").exists()


def test_the_terminal_names_the_cells_in_which_two_runs_differ(make_run):
    run, other = make_run("one", tuples=40), make_run("two", tuples=40)
    for block in range(5):  # the other one never fails
        path = other.block("at", "pgd-8", block)
        rows = read_table(path, schema.OUTCOMES).to_pydict()
        write_table(
            path,
            schema.table(schema.OUTCOMES, rows | {"adversarial_rank": [1] * len(rows["tuple_id"])}),
        )
    text = terminal.comparison_text(
        results.read(run), compare(results.read(run), results.read(other))
    )
    made = against(results.read(run), results.read(other)).set_index(["model", "attack", "epsilon"])
    assert f"against {other.directory}, on the tuples of both: 2 of 12 cells differ" in text
    assert (
        f"pgd-8 on at at 0.05: {made.loc[('at', 'pgd-8', 0.05), 'percent']:.1f} here, 100.0 there"
        in text
    )


def test_runs_that_share_nothing_are_refused(make_run):
    run, other = make_run("one"), make_run("two", epsilons=(0.02,))
    with pytest.raises(ConfigError, match="shares no model, attack, budget and tuple"):
        compare(results.read(run), results.read(other))


@pytest.mark.usefixtures("quick")
def test_classifiers_are_shown_with_their_difference(make_run):
    run = make_run()
    write_report(results.read(run))
    made = pd.read_csv(run.report / "tables" / "classifiers.csv").set_index(["model", "quantity"])
    assert made.loc[("at", "clean_accuracy"), "delta_points"] == pytest.approx(-12.0)
    assert np.isnan(made.loc[("unsecured", "clean_accuracy"), "delta_points"])
