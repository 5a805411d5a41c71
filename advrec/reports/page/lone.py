"""The page of a lone encoder: one model, not trained here, with nothing to compare it with.

What only a comparison or a training can fill is left out.
"""

from statistics import median_low

from markupsafe import Markup

from advrec.reports.page.cells import Table
from advrec.reports.page.verdict import Point
from advrec.reports.results import Results
from advrec.reports.tables.rows import DASH, is_lone
from advrec.reports.tables.success import strongest
from advrec.spec.chains import joined

MEASURED = (
    "EfficientNet-Lite0, trained for one epoch on 2,146 photographs, had an overlap of lists of "
    "33\u00a0%"
)


def known_part(table: Table) -> Table | None:
    """The table without columns of which nothing is known; None where no other is left."""
    kept = [
        place
        for place in range(len(table.columns))
        if place < table.heads or any(row[place].text != DASH for row in table.rows)
    ]
    if len(kept) == table.heads:
        return None
    return table._replace(
        columns=[table.columns[place] for place in kept],
        rows=[[row[place] for place in kept] for row in table.rows],
    )


def next_steps(results: Results) -> list[Point]:
    """An entry that defends a lone encoder which was attacked with success; nothing of others. A
    joined one has none: its parts are defended.

    Its budget is the middle one of the study.
    """
    model = results.baseline
    best = strongest(results).get(model)
    budgets = [epsilon for epsilon in results.study.evaluation.epsilons if epsilon]
    if not is_lone(results) or not budgets or best is None or not best["percent"]:
        return []
    if joined(results.study.models[model]):
        return []
    keys = f"init: {model}, epsilon: {results.shown(median_low(budgets))}"
    entry = f"{model}-fare: {{defense: fare, {keys}}}"
    sentence = Markup(
        "Defend this encoder, which needs images and no labels: add <code>{}</code> to the models "
        "of the study and run it again. What stands here is kept; the page then compares both."
    ).format(entry)
    held = f"{model}-lore: {{defense: lore, {keys}, rho: 0.2}}"
    train = results.preparation.get("splits", {}).get("train")
    count = "images of the training split" if train is None else f"{train:,} training images"
    cost = Markup(
        "It trains on the {}, or on those of a folder (<code>images</code>). A short training on "
        "few images changes the lists much: {}. <code>{}</code> keeps more of the lists and saves "
        "less, the more so the smaller <code>rho</code> is."
    ).format(count, MEASURED, held)
    return [Point("What to do next", [sentence, cost])]
