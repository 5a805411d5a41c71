"""What a shop stores in a report: images that succeed more once they are stored, and budgets that
are too small to be stored.
"""

import pytest

from advrec.reports import results, terminal
from advrec.reports.page.minimal import median_budgets
from advrec.run import schema
from advrec.run.files import write_table
from advrec.run.tables import read_table
from tests.reports.test_report import Page, page_of
from tests.reports.test_verdict import said

HALF, TWO = 0.5 / 255, 2 / 255


def set_reached(run, model, attack, counts):
    """The first tuples reach rank 1, so many as computed and stored, by budget."""
    stored = schema.delivered("png")[1]
    for block in range(3):
        path = run.block(model, attack, block)
        rows = read_table(path, schema.outcomes(["png"])).to_pydict()
        for column, place in (("adversarial_rank", 0), (stored, 1)):
            cells = zip(rows["tuple_id"], rows["epsilon"], strict=True)
            rows[column] = [1 if each < counts[budget][place] else 20 for each, budget in cells]
        write_table(path, schema.table(schema.outcomes(["png"]), rows))


@pytest.fixture
def run(make_run):
    """The undefended model falls more once its images are stored, at the smaller budget; one of the
    defended ones does at the larger.
    """
    made = make_run(attacks=["fgsm", "pgd-8"], epsilons=(HALF, TWO), delivery=("float", "png"))
    counts = {"unsecured": {HALF: (10, 15), TWO: (20, 18)}, "at": {HALF: (0, 0), TWO: (4, 8)}}
    for model, reached in counts.items():
        set_reached(made, model, "pgd-8", reached)
        set_reached(made, model, "fgsm", dict.fromkeys(reached, (0, 0)))
    text = made.study.read_text()
    made.study.write_text(text.replace(f"[{HALF}, {TWO}]", "[0.5/255, 2/255]"))
    return made


def test_a_success_that_is_higher_once_stored_stands_beside_that_as_computed(run):
    exposed = said(run, "Exposure")[0]
    first, second = exposed.split(" At budget 0.5/255 ")
    assert "<strong>100.0 %</strong>" in first
    assert "Stored as" not in first  # where it is lower
    assert "<strong>50.0 %</strong>" in second
    assert "Stored as png it is higher: <b>pgd-8</b> succeeds in <strong>75.0 %</strong>" in second
    at, cat = said(run, "What each defense saves")
    assert "<strong>20.0 %</strong>" in at
    assert "Stored as png it is higher: <b>pgd-8</b> succeeds in <strong>40.0 %</strong>" in at
    assert "Stored as" not in cat
    told = terminal.comparison_text(results.read(run))
    assert "unsecured at 0.5/255: 50.0 as computed, 75.0 stored as png (pgd-8)" in told
    assert "at at 2/255: 20.0 as computed, 40.0 stored as png (pgd-8)" in told
    assert told.count("as computed, ") == 2


@pytest.mark.usefixtures("quick")
def test_a_budget_that_no_shop_stores_is_called_so_wherever_it_is_shown(run, make_run):
    words = "less than one of a pixel's 255 levels, so an image that a shop stores with 8 bits"
    exposed = said(run, "Exposure")[0].replace("&#39;", "'")
    assert exposed.count(f"0.5/255 is {words}") == 1
    assert f"ε = 0.5/255: {words}" in Page(page_of(run)).text
    assert f"epsilon 0.5/255: {words}" in terminal.comparison_text(results.read(run))
    other = make_run("other", epsilons=(1 / 255, TWO))
    assert words not in Page(page_of(other)).text + terminal.comparison_text(results.read(other))


def test_a_median_budget_that_no_shop_stores_is_called_so(make_run, monkeypatch):
    from advrec.reports.tables import minimal

    read = results.read(make_run())
    found = [minimal.Median("unsecured", "minimal-8", 3, each) for each in (HALF, TWO)]
    monkeypatch.setattr(minimal, "medians", lambda of: found)
    small, large = map(str, median_budgets(read))
    assert "less than one of a pixel" in small.replace("&#39;", "'")
    assert "less than one of a pixel" not in large.replace("&#39;", "'")
