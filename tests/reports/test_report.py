"""A small run with invented outcomes: its tables, its page, and what happens when something is
missing.
"""

import base64
import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from advrec.errors import ConfigError
from advrec.reports import results, terminal
from advrec.reports.report import write_report
from advrec.reports.tables import (
    category_attacks,
    cost,
    door,
    gates,
    joined,
    knowledge,
    promotions,
    promotions_against,
    quantities,
    reached,
    success,
    utility,
)
from advrec.reports.tables.against import against
from advrec.reports.tables.every import all_tables
from advrec.reports.tables.rows import DASH
from advrec.run import schema
from advrec.run.directory import Run
from advrec.run.files import write_json, write_table
from advrec.run.tables import read_outcomes, read_table
from advrec.stages import plan, status

NASTY = "<script>alert(1)</script>&\"'.jpg"


class Page(HTMLParser):
    """What a page loads, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loads, self.images, self.heads, self.text = [], [], [], [], ""
        self.links, self.ids, self.downloads = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        self.loads += [
            given[key]
            for key in ("src", "srcset", "href", "data", "action")
            if key in given and given[key][0] != "#"
        ]
        self.links += [given["href"]] if given.get("href", "").startswith("#") else []
        self.ids += [given["id"]] if "id" in given else []
        self.downloads += [(given["download"], given["href"])] if "download" in given else []
        self.images += [given] if tag == "img" else []
        self.heads += [given] if tag == "th" else []

    def handle_data(self, data):
        self.text += data


def page_of(run, **options):
    return write_report(results.read(run), **options).read_text(encoding="utf-8")


def csv(run, name):
    return pd.read_csv(run.report / "tables" / f"{name}.csv", keep_default_na=False, na_values=[""])


def test_success_equals_a_naive_recomputation(finished):
    rows = read_outcomes(finished.attacks).to_pylist()
    made = csv(finished, "success")
    assert len(made) == 3 * 2 * 2 * 4
    assert made["successes"].nunique() > 5  # the invented outcomes differ from cell to cell
    for row in made.to_dict("records"):
        key = (row["model"], row["attack"], row["epsilon"])
        cell = [r for r in rows if (r["model"], r["attack"], r["epsilon"]) == key]
        hits = sum(r["adversarial_rank"] <= row["rank"] for r in cell)
        share, z, n = hits / 20, 1.959963984540054, len({r["target_id"] for r in cell})
        if 0 < share < 1:  # by how much outcomes of one target agree
            won = [
                [r["adversarial_rank"] <= row["rank"] for r in cell if r["target_id"] == t]
                for t in {r["target_id"] for r in cell}
            ]
            between = (
                sum((sum(each) - share * len(each)) ** 2 for each in won)
                * len(won)
                / (len(won) - 1)
            )
            n = min(20, 20**2 * share * (1 - share) / between)
        roots = sorted(np.roots([1 + z**2 / n, -(2 * share + z**2 / n), share**2]).real)
        assert (row["n"], row["successes"]) == (20, hits)
        shown = [row["effective_n"], row["percent"], row["low_percent"], row["high_percent"]]
        np.testing.assert_allclose(
            shown, [n, 100 * share, 100 * roots[0], 100 * roots[1]], atol=1e-6
        )


def test_the_comparison_has_a_row_a_model_and_uses_rank_3_and_the_largest_budget(finished):
    made = csv(finished, "defense_comparison").set_index("model")
    assert list(made.index) == ["unsecured", "at", "cat"]
    assert made["defense"].tolist() == ["none", "at", "cat"]
    success = csv(finished, "success")
    for model in made.index:
        chosen = success[(success["model"] == model) & (success["attack"] == "pgd-8")]
        chosen = chosen[(chosen["rank"] == 3) & (chosen["epsilon"] == 0.05)].iloc[0]
        assert made.loc[model, "pgd-8_percent"] == chosen["percent"]
        assert made.loc[model, "pgd-8_high_percent"] == chosen["high_percent"]
        assert made.loc[model, "pgd-8_n"] == 20
    assert made.loc["at", "clean_accuracy_percent"] == pytest.approx(56.0)
    assert made.loc["at", "clean_accuracy_n"] == 300
    assert made.loc["at", "texture_top1_precision_n"] == 200
    assert made["adversarial_texture_top1_precision_percent"].isna().all()
    assert not [name for name in made if name.startswith("strong_")]


def test_accuracy_of_an_earlier_meaning_has_a_column_of_its_own(finished, tmp_path):
    old = Run(shutil.copytree(finished.directory, tmp_path / "old"))
    metrics = old.model("at") / "metrics.json"
    earlier = {"strong_adversarial_accuracy": 0.25, "n_strong": 40}
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | earlier))
    made = quantities.defense_comparison(results.read(old)).set_index("model")
    assert made.loc["at", "strong_adversarial_accuracy_percent"] == 25.0
    assert made["robust_accuracy_percent"].isna().all()


def test_cost_and_budget_equal_a_naive_recomputation(finished):
    rows = [
        r
        for r in read_outcomes(finished.attacks).to_pylist()
        if (r["model"], r["attack"]) == ("cat", "pgd-8")
    ]
    cost = csv(finished, "cost").set_index(["model", "attack"]).loc[("cat", "pgd-8")]
    assert cost["n"] == len(rows) == 40
    assert cost["forward_passes_per_row"] == 10.0
    assert cost["seconds_per_row"] == pytest.approx(sum(r["seconds"] for r in rows) / 40)
    budget = csv(finished, "budget")
    assert budget["within_budget"].all()
    assert budget["max_raw_overshoot"].max() < 1e-6


@pytest.mark.usefixtures("quick")
def test_a_broken_budget_is_seen(make_run):
    run = make_run(attacks=["fgsm", "cw-50"])
    assert cost.budget(results.read(run))["max_raw_overshoot"].max() == pytest.approx(
        0.0025, abs=1e-6
    )
    path = run.block("at", "fgsm", 0)
    table = read_table(path, schema.OUTCOMES).to_pydict()
    table["linf"][0] += 0.01
    write_table(path, schema.table(schema.OUTCOMES, table))
    made = cost.budget(results.read(run))
    broken = made[~made["within_budget"]]
    assert broken[["model", "attack", "n"]].to_numpy().tolist() == [["at", "fgsm", 20]]
    assert broken["max_excess"].item() == pytest.approx(0.01, abs=1e-6)
    assert ">NO<" in page_of(run)


def test_the_page_loads_nothing_from_anywhere(finished):
    page = Page((finished.report / "index.html").read_text(encoding="utf-8"))
    # a chart has four pictures
    assert len(page.loads) == 5 * 4 + len(page.images) - 5 + len(page.downloads)
    assert all(
        re.match(r"data:(image/(png|jpeg|svg\+xml)|text/csv);base64,[A-Za-z0-9+/=]+$", load)
        for load in page.loads
    )
    assert not {"link", "iframe", "object", "embed"} & set(page.tags)
    style = re.search(
        r"<style>(.*?)</style>", (finished.report / "index.html").read_text(encoding="utf-8"), re.S
    )
    assert not re.search(r"url\(|@import", style[1])


def test_every_figure_and_table_of_the_page_can_be_downloaded(finished):
    page = Page((finished.report / "index.html").read_text(encoding="utf-8"))
    charts = {
        f"figure-{name}"
        for name in ("comparison", "success", "convergence", "distances", "training", "map")
    }
    shown = {
        "success",
        "delivered",
        "checks",
        "worst_case",
        "categories",
        "defense_comparison",
        "cost",
        "budget",
        "preparation",
        "splits",
        "visible_budgets",
    }
    shown |= {"index_recall", "classifiers", "recommendations"}
    assert {name.removesuffix(".csv") for name, _ in page.downloads} == charts | shown
    for name, link in page.downloads:
        path = (
            finished.report / "figures" / name[7:]
            if name.startswith("figure-")
            else finished.report / "tables" / name
        )
        assert base64.b64decode(link.removeprefix("data:text/csv;base64,")) == path.read_bytes()


def test_the_page_is_accessible(finished):
    page = Page((finished.report / "index.html").read_text(encoding="utf-8"))
    # Figures and the map; examples; before and after; growing budgets; the gallery.
    assert len(page.images) == 6 + 4 * 6 + 3 * 2 * 6 + 3 * 4 + 2 * (2 + 12)
    assert all(image.get("alt") for image in page.images)
    assert {head.get("scope") for head in page.heads} == {"col", "row"}
    assert len(page.links) > 10
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert len(set(page.ids)) == len(page.ids)


def test_the_verdict_comes_first_with_n_and_interval(finished):
    text = html.unescape(
        Page((finished.report / "index.html").read_text(encoding="utf-8")).text
    ).replace("\u00a0", " ")
    best = success.strongest(results.read(finished))["unsecured"]
    interval = f"{best['low_percent']:.1f} to {best['high_percent']:.1f}"
    sentence = f"in {best['percent']:.1f} % (95 % interval {interval}, n = 20"
    assert sentence in text
    small = results.read(finished).success.query(
        "model == 'unsecured' and rank == 3 and epsilon == 0.01"
    )
    small = small.sort_values("percent").iloc[-1]
    assert "That is 12.8 of a pixel's 255 levels at most." in text
    smallest = f"{small['attack']}, succeeds in {small['percent']:.1f} % (95 % interval"
    assert f"At budget 0.01 the strongest, {smallest}" in text
    assert text.count("Of the ten articles beside each") == 2
    assert (
        text.index("What each defense saves")
        < text.index("What it changes")
        < text.index("Defenses compared")
    )
    titles = (
        "Defenses compared",
        "Success against budget",
        "Examples\n",
        "Catalog and preparation",
        "Provenance",
    )
    body = text[text.index(titles[0]) :]  # the links to the sections come before
    places = [body.index(title) for title in titles]
    assert places == sorted(places)


@pytest.mark.usefixtures("quick")
def test_hostile_names_stay_text(finished, make_run):
    text = (finished.report / "index.html").read_text(encoding="utf-8")
    assert NASTY in html.unescape(text)
    assert "<script>alert" not in text
    run = make_run("hostile")
    run.write_set_aside({f"attacks/{NASTY}/fgsm/0": NASTY})
    write_json(run.provenance, {NASTY: NASTY})
    write_json(
        run.preparation,
        {"source": NASTY, "categories": [NASTY], "steps": [{"step": NASTY, "articles": 1}]},
    )
    forged = page_of(run)
    assert "<script>alert" not in forged
    assert html.unescape(forged).count(NASTY) >= 7


@pytest.mark.long
def test_every_table_and_figure_is_written(finished):
    names = {path.name for path in (finished.report / "tables").iterdir()}
    made = {
        "success",
        "defense_comparison",
        "blocks",
        "cost",
        "budget",
        "recommendations",
        "index_recall",
        "preparation",
        "splits",
    }
    made |= {
        "checks",
        "delivered",
        "winners",
        "worst_case",
        "categories",
        "convergence",
        "defects",
        "distinct",
        "equal_pairs",
        "minimal_budgets",
        "minimal_curve",
        "classifiers",
    }
    made |= {"training", "quantile_lines", "visibility", "visible_budgets"}
    assert names == {f"{name}.{form}" for name in made for form in ("csv", "tex")}
    drawn = {path.name for path in (finished.report / "figures").iterdir()}
    charts = ("success", "comparison", "convergence", "distances", "training")
    pictures = {
        f"{kind}-{model}"
        for kind in ("before", "after", "growing")
        for model in ("unsecured", "at", "cat")
    }
    pictures, numbers = pictures | {"map"}, {*charts, "map"}
    assert drawn == {
        f"{name}.{form}" for name in (*charts, *pictures) for form in ("png", "svg")
    } | {f"{name}.csv" for name in numbers}
    (finished.report / "figures" / "growing-gone.png").write_bytes(
        b"of a model that is not in the study any more"
    )
    write_report(results.read(finished))
    assert {path.name for path in (finished.report / "figures").iterdir()} == drawn
    for name in pictures:
        svg = (finished.report / "figures" / f"{name}.svg").read_text(encoding="utf-8")
        png = finished.report / "figures" / f"{name}.png"
        assert base64.b64decode(svg.split("base64,")[1].split('"')[0]) == png.read_bytes()
        assert svg.count('width="{}" height="{}"'.format(*Image.open(png).size)) == 2
    for name in charts:
        picture = np.asarray(Image.open(finished.report / "figures" / f"{name}.png").convert("RGB"))
        assert len(np.unique(picture @ np.array([65536, 256, 1]))) > 50
    assert csv(finished, "preparation")["removed"].tolist() == [0, 5]
    assert csv(finished, "splits")["percent"].tolist() == [0.0, 0.0, 100.0]


@pytest.mark.long
def test_the_same_run_gives_the_same_report(finished):
    before = {path: path.read_bytes() for path in finished.report.rglob("*.*")}
    write_report(results.read(finished))
    assert {path: path.read_bytes() for path in finished.report.rglob("*.*")} == before


def test_missing_blocks_are_refused_with_their_number(make_run):
    run = make_run(skip=[("at", "fgsm", 1), ("cat", "pgd-8", 2)])
    with pytest.raises(
        ConfigError, match=r"2 of 18 blocks are missing.*`advrec evaluate`.*--partial"
    ) as refused:
        write_report(results.read(run))
    assert "\n" not in str(refused.value)
    assert not run.report.exists()


@pytest.mark.usefixtures("quick")
def test_a_partial_run_has_a_banner_and_true_denominators(make_run):
    run = make_run(skip=[("at", "fgsm", 1), ("cat", "pgd-8", 2)])
    text = Page(page_of(run, partial=True)).text
    assert "Partial: 2 of 18 blocks are missing" in text
    study = results.read(run).study
    assert status.report(run, plan.make(run, study)) == "made, but work is missing"
    assert "PARTIAL: 2 of 18 blocks are missing" in terminal.comparison_text(results.read(run))
    assert "fgsm on at: 12 of 20 tuples" in text
    assert "pgd-8 on cat: 16 of 20 tuples" in text
    counts = csv(run, "success").groupby(["model", "attack"])["n"].unique().map(list)
    assert counts[("at", "fgsm")] == [12]
    assert counts[("cat", "pgd-8")] == [16]
    assert counts[("cat", "fgsm")] == [20]


@pytest.mark.usefixtures("quick")
def test_set_aside_blocks_do_not_stop_a_report_but_are_told(make_run):
    run = make_run(skip=[("at", "fgsm", 1)])
    run.write_set_aside({"attacks/at/fgsm/1": "killed three times"})
    text = Page(page_of(run)).text
    assert "Set aside: 1 of 18 blocks" in text
    assert "attacks/at/fgsm/1: killed three times" in text
    assert "Partial:" not in text
    row = csv(run, "blocks").set_index(["model", "attack"]).loc[("at", "fgsm")]
    assert row[["tuples", "tuples_done", "blocks", "done", "set_aside", "missing"]].tolist() == [
        20,
        12,
        3,
        2,
        1,
        0,
    ]


def test_a_whole_run_has_no_banner(finished):
    assert 'class="banner"' not in (finished.report / "index.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("quick")
def test_missing_metrics_become_a_dash(make_run):
    run = make_run()
    (run.model("at") / "metrics.json").unlink()
    (run.model("cat") / "index.json").unlink()
    text = page_of(run)
    assert "at</b>: not known, its accuracy was not measured" in text
    made = csv(run, "defense_comparison").set_index("model")
    assert np.isnan(made.loc["at", "clean_accuracy_percent"])
    assert made.loc["cat", "clean_accuracy_percent"] == pytest.approx(62.0)
    line = next(
        line
        for line in terminal.comparison_text(results.read(run)).splitlines()
        if line.startswith("clean accuracy")
    )
    assert re.search(rf"68\.0 \(.*\)\s+{DASH}\s+62\.0 \(56\.4 to 67\.3\)$", line)


def test_a_run_without_any_outcome_can_still_be_shown(make_run):
    every = [
        (model, attack, block)
        for model in ("unsecured", "at", "cat")
        for attack in ("fgsm", "pgd-8")
        for block in range(3)
    ]
    run = make_run(skip=every)
    run.provenance.unlink()
    run.preparation.unlink()
    text = Page(page_of(run, partial=True)).text
    assert "18 of 18 blocks are missing" in text
    assert "Not known yet: no attack on unsecured" in text
    assert "clean accuracy 56.0" in text.replace("\u00a0", " ")


@pytest.mark.usefixtures("quick")
def test_models_and_attacks_that_the_study_does_not_name_are_left_out(make_run):
    run = make_run(attacks=["fgsm", "pgd-8", "pgd-32"])
    study = (
        run.study.read_text()
        .replace("[fgsm, pgd-8, pgd-32]", "[pgd-8, fgsm]")
        .replace("cat, width: 0.5", "cat, width: 1.0")
    )
    lines = [line for line in study.splitlines() if not line.strip().startswith("at:")]
    run.study.write_text("\n".join(lines))
    text = Page(page_of(run)).text
    assert "pgd-32" not in text
    success = csv(run, "success")
    assert success["model"].unique().tolist() == ["unsecured", "cat"]
    assert success["attack"].unique().tolist() == ["pgd-8", "fgsm"]


@pytest.mark.parametrize(
    ("ranks", "chosen"), [([1, 3, 10], 3), ([1, 5], 1), ([2, 10], 2), ([100], 100)]
)
def test_the_headline_takes_the_rank_nearest_to_3(make_run, ranks, chosen):
    run = make_run(tuples=4, block=4, attacks=["fgsm"])
    run.study.write_text(run.study.read_text().replace("ranks: [1, 3, 10, 100]", f"ranks: {ranks}"))
    assert results.read(run).rank == chosen


def test_comparison_text_fits_a_terminal_and_repeats_the_table(make_run):
    run = make_run(attacks=["fgsm", "pgd-8", "pgd-32", "pgd-128", "cw-50"], tuples=100, block=50)
    text = terminal.comparison_text(results.read(run))
    assert max(map(len, text.splitlines())) <= 100
    made = success.headline(results.read(run)).set_index(["model", "attack"])
    line = next(line for line in text.splitlines() if line.startswith("success of pgd-128"))
    values = re.findall(r"([\d.]+) \(([\d.]+) to ([\d.]+)\)", line)
    for model, shown in zip(("unsecured", "at", "cat"), values, strict=True):
        row = made.loc[(model, "pgd-128")]
        expected = (row["percent"], row["low_percent"], row["high_percent"])
        np.testing.assert_allclose([float(value) for value in shown], expected, atol=0.051)


def test_a_report_needs_neither_torch_nor_ray(finished):
    code = (
        "import sys; from pathlib import Path; from advrec.run.directory import Run; "
        "import advrec.reports.report; "
        "from advrec.reports import results, terminal; "
        f"print(terminal.comparison_text(results.read(Run(Path({str(finished.directory)!r}))))); "
        "sys.exit(' '.join({'torch', 'ray', 'torchvision'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "success of pgd-8" in done.stdout


@pytest.mark.usefixtures("quick")
def test_the_comparison_says_what_training_took(make_run):
    run = make_run()
    columns = {
        "epoch": [1, 2],
        "attack_steps": [0, 8],
        "learning_rate": [0.1, 0.1],
        "seconds": [60.0, 30.5],
    }
    columns |= {
        key: [0.5, 0.5]
        for key in ("train_loss", "validation_clean_accuracy", "validation_adversarial_accuracy")
    }
    write_table(run.history("at"), schema.table(schema.HISTORY, columns))
    made = quantities.defense_comparison(results.read(run)).set_index("model")
    assert made.loc["at", "training_seconds"] == 90.5
    assert made["training_seconds"].isna().sum() == 2
    line = next(
        line
        for line in terminal.comparison_text(results.read(run)).splitlines()
        if line.startswith("seconds of training")
    )
    assert line.split()[-3:] == [DASH, "90", DASH]


@pytest.mark.long
def test_the_reference_run_still_gives_the_tables_that_ship_with_it(tmp_path):
    """Rows of an earlier commit are read as they were, and their numbers have not moved."""
    shipped = Path(__file__).parents[2] / "results" / "reference"
    shutil.copytree(shipped, tmp_path / "reference", ignore=shutil.ignore_patterns("report"))
    write_report(results.read(Run(tmp_path / "reference")))
    for table in ("success", "defense_comparison", "checks", "cost", "categories"):
        made = (tmp_path / "reference" / "report" / "tables" / f"{table}.csv").read_text(
            encoding="utf-8"
        )
        assert made == (shipped / "report" / "tables" / f"{table}.csv").read_text(encoding="utf-8")


def test_every_column_is_explained_where_its_table_is(finished):
    page = Path(__file__).parents[2] / "docs" / "reference" / "report-tables.md"
    text = page.read_text(encoding="utf-8")
    first, common, further, quantity = text.split("\n## ")
    read = results.read(finished)
    tables = all_tables(read) | {"against": against(read, read), "gates": gates.gates(read)}
    tables["joined"] = joined.joined(read)
    # there only with hybrids
    tables |= {"utility": utility.utility(read), "feature_attacks": utility.feature_attacks(read)}
    tables |= promotions.every(read) | {
        reached.NAME: reached.groups(read)
    }  # there only with audiences
    tables["promotions_against"] = promotions_against.against(read, read)
    tables["category_attacks"] = category_attacks.category_attacks(read)
    # there only with attacks of two kinds of knowledge
    tables[knowledge.NAME] = knowledge.ladder(read)
    tables["door"] = door.door(read)  # there only with attacks that know of an ingest, and blind
    # `changes` is there only with defenses that need no labels
    assert set(re.findall(r"^\| `(\w+)` \|", first, re.MULTILINE)) == {*tables, "changes"}
    for name, table in tables.items():
        rows = [line for line in further.splitlines() if re.match(rf"\| [^|]*`{name}`", line)]
        words = set(re.findall(r"`(\w+)`", "".join([common, *rows])))
        columns = set(map(str, table))
        if name == "defense_comparison":  # <quantity>_percent, ...
            words |= {*re.findall(r"`(\w+)`", quantity), *read.attacks}
            columns = {re.sub(r"_((low_|high_)?percent|n)$", "", column) for column in columns}
        assert columns <= words, (name, columns - words)
        assert len(columns) > 0, name
