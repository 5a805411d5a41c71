"""The page of a lone encoder says what there is, and nothing of what a comparison would say."""

import json
import re
from pathlib import Path

import pytest
import yaml

from advrec.reports import results, terminal
from advrec.reports.page.cells import Table, TextCell
from advrec.reports.page.lone import MEASURED, known_part
from advrec.reports.pictures import charts
from advrec.reports.tables import every
from advrec.reports.tables.rows import DASH
from advrec.run.files import read_json, write_json, write_text
from advrec.spec import study as study_file
from tests.reports.test_report import Page, page_of

OWN = {"model": "shop.encoder:network"}


@pytest.fixture
def lone(make_run):
    """A run of one model that was trained elsewhere: no accuracy, no history."""
    run = make_run(epsilons=(0.01, 0.02, 0.05), checks=12, trained=True)
    changed(run, models={"unsecured": OWN})
    (run.model("unsecured") / "metrics.json").unlink()
    run.history("unsecured").unlink()
    return run


def changed(run, **sections):
    study = yaml.safe_load(run.study.read_text()) | sections
    write_text(run.study, yaml.safe_dump(study, sort_keys=False))


def headings(text):
    return re.findall(r"<h2[^>]*>([^<]*)<", text)


@pytest.mark.usefixtures("quick")
def test_the_list_of_a_customer_leads_and_nothing_is_compared(lone):
    text = page_of(lone)
    page = Page(text)
    assert headings(text)[:2] == ["What a customer sees", "Success of each attack"]
    assert len(headings(text)) == len(set(headings(text)))
    assert [link for link in page.links if link[1:] not in page.ids] == []
    for words in ("Defenses", "accuracy", "Training", "Overlap", "of the test articles, and"):
        assert words not in page.text.replace("optimizer", ""), words
    tables = text.partition('id="provenance"')[0]
    dashes = [row for row in re.findall(r"<tr>(.*?)</tr>", tables) if f">{DASH}<" in row]
    assert dashes == []


@pytest.mark.usefixtures("quick")
def test_the_entry_that_defends_it_can_be_pasted(lone):
    evaluation = yaml.safe_load(lone.study.read_text())["evaluation"]
    changed(lone, evaluation=evaluation | {"epsilons": ["1.275/255", "5.1/255", "12.75/255"]})
    (entry,) = re.findall(r"<code>(unsecured-fare: .*?)</code>", page_of(lone))
    pasted = yaml.safe_load(entry)
    assert pasted["unsecured-fare"]["epsilon"] == "5.1/255"
    changed(lone, models={"unsecured": OWN} | pasted)
    study = study_file.read(lone.study)
    assert study.models["unsecured-fare"].init == "unsecured"


@pytest.mark.usefixtures("quick")
def test_what_few_images_cost_is_said_with_an_entry_that_keeps_more(lone):
    preparation = read_json(lone.preparation)
    write_json(lone.preparation, preparation | {"splits": {"train": 1234, "test": 20}})
    text = page_of(lone)
    assert "It trains on the 1,234 training images" in text
    assert "had an overlap of lists of" in text
    (entry,) = re.findall(r"<code>(unsecured-lore: .*?)</code>", text)
    changed(lone, models={"unsecured": OWN} | yaml.safe_load(entry))
    assert study_file.read(lone.study).models["unsecured-lore"].rho == 0.2


@pytest.mark.usefixtures("quick")
def test_the_page_of_a_model_that_was_trained_here_compares_nothing_either(lone):
    changed(lone, models={"unsecured": {"defense": "none"}})
    text = page_of(lone)
    assert headings(text)[0] == "Success of each attack"
    assert "customer" in json.dumps(Page(text).ids)
    assert "fare" not in text


@pytest.mark.usefixtures("quick")
def test_several_encoders_without_a_defense_are_compared_and_are_no_defenses(lone):
    """Each has its exposure in the verdict; nothing is drawn or told of an accuracy."""
    changed(lone, models={"unsecured": OWN, "at": OWN})
    (lone.model("at") / "metrics.json").unlink()
    lone.history("at").unlink()
    page = Page(page_of(lone))
    assert headings(page_of(lone))[0] == "Models compared"
    told = page.text.partition("Settings")[0].replace("optimizer", "")
    told += terminal.comparison_text(results.read(lone))
    assert re.findall(r".{30}(?:efens|accuracy|accurate).{30}", told) == []
    exposed = told[told.index("Exposure") : told.index("A stronger attack may exist")]
    assert "On unsecured (no defense), the strongest attack" in exposed
    assert "On at the strongest attack, pgd-8, succeeds in" in exposed
    read = results.read(lone)
    chart = charts.comparison(read, every.all_tables(read))
    assert len(chart.draw("wide").axes) == 1


def test_the_terminal_says_what_is_known(lone):
    said = terminal.comparison_text(results.read(lone))
    assert DASH not in said
    assert "seconds of training" not in said
    assert "success of pgd-8" in said


def test_a_table_keeps_what_is_known():
    def table(*rows):
        return Table("t", ["a", "b", "c"], [[TextCell(text) for text in row] for row in rows])

    part = known_part(table(("m", DASH, "1"), ("n", DASH, DASH)))
    assert part.columns == ["a", "c"]
    assert [[cell.text for cell in row] for row in part.rows] == [["m", "1"], ["n", DASH]]
    assert known_part(table(("m", DASH, DASH))) is None


def test_what_is_quoted_stands_in_the_results():
    text = (Path(__file__).parents[2] / "docs/results/label-free.md").read_text(encoding="utf-8")
    (photographs,) = re.findall(r"of which ([\d,]+) are trained on", text)
    (row,) = re.findall(r"^\| c \| `fare`, one epoch \|(.*)\|$", text, re.MULTILINE)
    kept = row.split("|")[3].strip()
    said = f"one epoch on {photographs} photographs, had an overlap of lists of {kept}"
    assert MEASURED.replace("\u00a0", " ").endswith(said)
