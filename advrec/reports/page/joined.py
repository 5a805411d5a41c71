"""The table of the page that holds joined networks against each of their parts."""

from advrec.reports.page.cells import Table, TextCell, attack_cell, measured
from advrec.reports.results import Results
from advrec.reports.tables.joined import joined
from advrec.reports.tables.rows import DASH, records

QUALITIES = {
    "same_category": "lists of ten: same category",
    "same_texture": "lists of ten: same texture",
}


def joined_table(results: Results) -> Table | None:
    """A row a joined model, a part and a quantity; None where no such two are compared."""
    rows = records(joined(results))
    body = []
    for row in rows:
        is_success = row["quantity"] == "success"
        if is_success and row["rank"] != results.rank:
            continue
        what = (
            attack_cell(results, row["attack"])
            if is_success
            else TextCell(QUALITIES[row["quantity"]])
        )
        of_part = {name: row[f"part_{name}"] for name in ("percent", "low_percent", "high_percent")}
        points = f"{row['low_points']:+.1f} to {row['high_points']:+.1f}"
        body.append(
            [
                TextCell(row["model"]),
                TextCell(row["part"]),
                what,
                TextCell(results.shown(row["epsilon"]) if is_success else DASH),
                measured(row),
                measured({**of_part, "n": row["n"]}),
                TextCell(f"{row['difference_points']:+.1f}", points),
            ]
        )
    if not body:
        return None
    caption = (
        f"Joined networks against one: success at rank {results.rank}, and lists of ten without an "
        "attack, on the same tuples and articles; 95\u00a0% interval and n below"
    )
    columns = ["Joined", "Part", "What", "ε", "Joined (%)", "Part (%)", "Difference (points)"]
    return Table(caption, columns, body, heads=2, source="joined")
