"""The section of the page on models that do something to every image themselves."""

from advrec.reports.page.cells import Table, TextCell, attack_cell, measured
from advrec.reports.results import Results
from advrec.reports.tables.door import door
from advrec.reports.tables.rows import records


def door_table(results: Results) -> Table | None:
    """A row a model, budget and attack that is there blind too; None where there is none."""
    body = []
    for row in records(door(results)):
        if row["rank"] != results.rank:
            continue
        blind = {name: row[f"blind_{name}"] for name in ("percent", "low_percent", "high_percent")}
        points = f"{row['low_points']:+.1f} to {row['high_points']:+.1f}"
        body.append(
            [
                TextCell(row["model"], row["ingest"]),
                attack_cell(results, row["attack"]),
                TextCell(results.shown(row["epsilon"])),
                measured(row),
                measured({**blind, "n": row["n"]}),
                TextCell(f"{row['difference_points']:+.1f}", points),
            ]
        )
    if not body:
        return None
    caption = (
        f"Success at rank {results.rank} of attacks that know of a model's ingest, and of the same "
        "ones blind to it, on the same tuples; 95\u00a0% interval and n below"
    )
    columns = ["Model", "Attack", "ε", "Knowing (%)", "Blind (%)", "Difference (points)"]
    return Table(caption, columns, body, heads=2, source="door")
