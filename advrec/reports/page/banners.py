"""Banners of the page: checks that failed, and gaps of the run."""

from typing import NamedTuple

from advrec.reports.results import Results
from advrec.reports.tables import checks, cost, door, equal
from advrec.reports.tables.rows import records

MOST_REASONS = 20
"""Reasons why something was set aside that the page names."""


class Banner(NamedTuple):
    """A sentence and its details, a line each."""

    text: str
    details: list[str]


def banners(results: Results) -> list[Banner]:
    """Failed checks first, then models that were attacked only blindly, equal images, then each way
    in which the run is not whole.
    """
    total = len(results.blocks)
    warnings = []
    if alarm := checks.alarm(results):
        details = [checks.warning(model, check) for model, check in checks.failed(results)]
        warnings.append(Banner(alarm, details))
    warnings += [Banner(sentence, []) for sentence in door.warnings(results)]
    if equal_images := equal.sentence(results):
        warnings.append(Banner(equal_images, []))
    missing = results.count("missing")
    if missing:
        text = (
            f"Partial: {missing:,} of {total:,} blocks are missing. "
            "Every n below counts only what is done."
        )
        warnings.append(Banner(text, _gaps(results)))
    if results.missing_check_blocks:
        text = (
            f"Checks incomplete: {results.missing_check_blocks:,} of their blocks are missing; "
            "advrec evaluate computes them."
        )
        warnings.append(Banner(text, []))
    if results.set_aside:
        blocks = results.count("set aside")
        text = (
            f"Set aside: {blocks:,} of {total:,} blocks"
            f"{_other_entries(len(results.set_aside) - blocks)} were given up on "
            "and are in no number below."
        )
        reasons = _reasons(results.set_aside)
        warnings.append(Banner(text, reasons if missing else [*reasons, *_gaps(results)]))
    return warnings


def _other_entries(count: int) -> str:
    """Entries of set_aside.json that are no block of the study."""
    return f" and {count:,} other {'entry' if count == 1 else 'entries'}" if count else ""


def _reasons(set_aside: dict[str, str]) -> list[str]:
    """A line a reason, with its first key and the number of others; MOST_REASONS at most."""
    keys: dict[str, list[str]] = {}
    for key, reason in sorted(set_aside.items()):
        keys.setdefault(reason, []).append(key)
    lines = []
    for reason, (first, *others) in keys.items():
        more = f" and {len(others):,} more" if others else ""
        lines.append(f"{first}{more}: {reason}")
    if len(lines) > MOST_REASONS:
        rest = f"and {len(lines) - MOST_REASONS:,} other reasons in set_aside.json"
        return [*lines[:MOST_REASONS], rest]
    return lines


def _gaps(results: Results) -> list[str]:
    lines = []
    for part, unit in (("attacks", "tuples"), ("promotions", "articles")):
        cells = cost.done(results, part)
        lines += [
            f"{row['attack']} on {row['model']}: {row['all_done']:,} of {row['all']:,} {unit}"
            for row in records(cells[cells["all_done"] < cells["all"]])
        ]
    return lines
