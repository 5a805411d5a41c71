"""All tables of a report."""

import pandas as pd

from advrec.reports.results import Results
from advrec.reports.tables import (
    category_attacks,
    changes,
    checks,
    convergence,
    cost,
    distances,
    door,
    equal,
    exposure,
    gates,
    joined,
    knowledge,
    minimal,
    preparation,
    promotions,
    quantities,
    reached,
    success,
    utility,
    visibility,
)


def all_tables(results: Results) -> dict[str, pd.DataFrame]:
    """Every table by the name of its file."""
    strongest = success.strongest(results)
    by_group = reached.groups(results)
    knowing = door.door(results)
    swapped = category_attacks.category_attacks(results)
    changed, against_parts = changes.changes(results), joined.joined(results)
    ladder = knowledge.ladder(results)
    return {
        "success": results.success,
        "delivered": success.delivered(results),
        "winners": success.winners(results),
        "checks": checks.verdicts(results),
        "worst_case": exposure.worst_case(results),
        "categories": exposure.categories(results, strongest),
        "convergence": convergence.convergence(results),
        "minimal_budgets": minimal.budgets(results),
        "minimal_curve": minimal.curve(results),
        "distinct": equal.distinct(results),
        "equal_pairs": equal.pairs(results),
        "defects": success.defects(results),
        "quantile_lines": distances.quantile_lines(distances.pairs(results, strongest)),
        "classifiers": quantities.classifiers(results),
        "training": quantities.training(results),
        "defense_comparison": quantities.defense_comparison(results),
        "blocks": cost.blocks(results),
        "cost": cost.cost(results),
        "budget": cost.budget(results),
        "recommendations": results.recommendations,
        "index_recall": cost.index_recall(results),
        "preparation": preparation.preparation(results),
        "splits": preparation.splits(results),
        **({} if ladder.empty else {knowledge.NAME: ladder}),
        **({} if changed.empty else {"changes": changed}),
        **({} if against_parts.empty else {"joined": against_parts}),
        **({} if knowing.empty else {"door": knowing}),
        **utility.tables(results),
        **visibility.tables(results),
        **promotions.tables(results),
        **({} if by_group.empty else {reached.NAME: by_group}),
        **({} if swapped.empty else {"category_attacks": swapped}),
        **({"gates": gates.gates(results)} if results.study.fail_if else {}),
    }
