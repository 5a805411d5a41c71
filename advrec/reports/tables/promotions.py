"""Promotions: how many of an audience see an article before an attack on its picture, and after."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from advrec.evaluation import bootstrap
from advrec.evaluation.rates import SHARE, shares
from advrec.reports.results import Results
from advrec.reports.tables import cost, minimal
from advrec.reports.tables.rows import records
from advrec.run import own_columns, promotions, schema
from advrec.run.interactions import INTERACTIONS
from advrec.run.tables import read_outcomes, read_table, refuse_copies
from advrec.spec.base import FLOAT

CELL = ["model", "audience", "attack", "epsilon", "delivery"]
ALL = "all"
COLD, TAIL, HEAD = "cold", "tail", "head"
"""Articles without a purchase in training; others; those bought most."""
HEAD_SHARE = 0.2
"""Share of the articles with a purchase that are called head."""
MEANS = [
    f"{measure}_{when}" for measure in ("hr", "ndcg") for when in ("before", "after", "change")
]
COLUMNS = [
    *(*CELL, "articles", "rank", "n"),
    *(f"{name}{bound}" for name in MEANS for bound in bootstrap.BOUNDS),
    *("raised", "improved", "median_rank_before", "median_rank_after"),
]
DIFFERENCES = [
    *(*CELL, "other", "rank", "n"),
    *(f"{measure}_difference{bound}" for measure in ("hr", "ndcg") for bound in bootstrap.BOUNDS),
]
BUDGETS = ["model", "audience", "attack", "share", "article_id", *own_columns.MINIMAL.names]
CURVE = ["model", "audience", "attack", "share", "epsilon", *SHARE]
SPENT = ("gradient_steps", "forward_passes", "seconds")
COST = [
    *("model", "audience", "attack", "share", "nested", "restarts", "from", "through", "n"),
    *("budgets", *(f"{name}_per_article" for name in SPENT), "seconds"),
]


@lru_cache(maxsize=2)  # all of the report asks for them, of two runs where they are compared
def rows(results: Results) -> pd.DataFrame:
    """One row a (model, attack, epsilon, delivery, article), in the study's order: columns of
    run.promotions, with what comes after a delivery in the place of what comes without; and `kind`
    of the article. Articles that the whole audience has bought are left out.
    """
    evaluation, run = results.study.evaluation, results.run
    columns = promotions.promotions(evaluation.ranks, evaluation.round_trips, evaluation.seen)
    known = pa.schema([*columns, *own_columns.MINIMAL])
    found: pd.DataFrame = read_outcomes(run.promotions, known).to_pandas()
    found = found[found["epsilon"].isin(list(evaluation.epsilons))]
    found = in_order(results, found.assign(delivery=FLOAT))
    refuse_copies(found, run.promotions, of="article_id")
    found = found[found["audience_size"] > 0]
    delivered = [
        found.assign(
            delivery=delivery,
            **{
                name: found[schema.suffixed(name, delivery)]
                for name in columns.names
                if schema.suffixed(name, delivery) in columns.names
            },
        )
        for delivery in evaluation.round_trips
    ]
    table = in_order(results, pd.concat([found, *delivered]))
    return table.assign(kind=_kinds(results)[table["article_id"].to_numpy()])


def in_order(results: Results, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the study's models, attacks and deliveries, as categories in its order."""
    orders = {
        "model": list(results.whole.models),
        "attack": [attack.name for attack in results.study.evaluation.attacks],
        "delivery": [FLOAT, *results.deliveries],
    }
    known = table.assign(
        **{name: pd.Categorical(table[name], order) for name, order in orders.items()}
    ).dropna(subset=list(orders))
    return known.sort_values([*CELL, "article_id"], kind="stable", ignore_index=True)


def _kinds(results: Results) -> npt.NDArray[np.object_]:
    """Kind (N,) of each article: cold, tail or head; `all` where no purchases are known."""
    size = len(results.labels)
    if not results.run.interactions.exists():
        return np.full(size, ALL, dtype=object)
    bought = read_table(results.run.interactions, INTERACTIONS).to_pandas()
    bought = bought[~bought["held_out"]]
    counts = np.bincount(bought["article_id"], minlength=size)
    least = np.quantile(counts[counts > 0], 1.0 - HEAD_SHARE, method="higher")
    kinds = [counts == 0, counts >= least]
    return np.select(kinds, np.array([COLD, HEAD], dtype=object), default=TAIL).astype(object)


@lru_cache(maxsize=1)
def exposure(results: Results) -> pd.DataFrame:
    """One row a (model, audience, attack, epsilon, delivery, kind of articles, rank K).

    HR@K and NDCG@K, 0..1, are means over n attacked articles, before and after and the change of
    each, with bootstrap intervals over the articles. `raised` is the share of articles whose HR@K
    rose; `improved` the mean share of the audience for whom the article ranks better than before;
    the median ranks are medians over articles of the audience's medians.
    """
    found = []
    for keys, cell in rows(results).groupby(CELL, observed=True):
        for kind in (ALL, COLD, TAIL, HEAD):
            own = cell if kind == ALL else cell[cell["kind"] == kind]
            if len(own):
                key = dict(zip(CELL, keys, strict=True)) | {"articles": kind, "n": len(own)}
                found += [key | row for row in _exposure(own, results.study.evaluation.ranks)]
    return pd.DataFrame(found, columns=COLUMNS)


def _exposure(own: pd.DataFrame, ranks: Sequence[int]) -> list[dict[str, Any]]:
    found = []
    for rank in ranks:
        values = {}
        for measure in ("hr", "ndcg"):
            before, after = (own[f"{measure}_{when}_{rank}"] for when in ("before", "after"))
            values[f"{measure}_before"], values[f"{measure}_after"] = before, after
            values[f"{measure}_change"] = after - before
        row = {"rank": rank, **bootstrap.bounded(pd.DataFrame(values))}
        row["raised"] = float((values["hr_change"] > 0).mean())
        row["improved"] = float(own["improved"].mean())
        for name in ("median_rank_before", "median_rank_after"):
            row[name] = float(own[name].median())
        found.append(row)
    return found


def differences(results: Results) -> pd.DataFrame:
    """One row a (model, audience, attack, other attack, epsilon, delivery, rank K): HR@K and
    NDCG@K after the attack minus those after the other one, -1..1, paired over n articles of both,
    with bootstrap intervals over articles. Attacks of one goal alone are compared.
    """
    found = []
    pair = [name for name in CELL if name != "attack"]
    for keys, cell in rows(results).groupby(pair, observed=True):
        by_attack = {
            str(name): own.set_index("article_id")
            for name, own in cell.groupby("attack", observed=True)
        }
        for attack, other in combinations(by_attack, 2):
            if results.attack(attack).goal != results.attack(other).goal:
                continue
            both = by_attack[attack].merge(
                by_attack[other], on="article_id", suffixes=("", "_other")
            )
            key = dict(zip(pair, keys, strict=True)) | {"attack": attack, "other": other}
            for rank in results.study.evaluation.ranks if len(both) else ():
                values = {
                    f"{measure}_difference": both[f"{measure}_after_{rank}"]
                    - both[f"{measure}_after_{rank}_other"]
                    for measure in ("hr", "ndcg")
                }
                found.append(
                    key | {"rank": rank, "n": len(both)} | bootstrap.bounded(pd.DataFrame(values))
                )
    return pd.DataFrame(found, columns=DIFFERENCES)


def budgets(results: Results) -> pd.DataFrame:
    """One row a (model, attack minimal-K, article): the smallest epsilon that reaches its share of
    the audience, epsilon_high, infinite where none does; epsilon_low was tried in vain.
    """
    found = rows(results)
    found = found[found["epsilon_high"].notna() & (found["delivery"] == FLOAT)]
    found = found.drop_duplicates(["model", "attack", "article_id"])
    shares = {attack.name: attack.share for attack in results.study.evaluation.attacks}
    return found.assign(share=found["attack"].astype(object).map(shares))[BUDGETS].reset_index(
        drop=True
    )


def curve(results: Results) -> pd.DataFrame:
    """One row a (model, attack minimal-K, epsilon): the percent of articles that reach the share of
    their audience within epsilon, with its 95 % interval (Wilson).
    """
    keys, parts = ["model", "audience", "attack", "share"], [pd.DataFrame(columns=CURVE)]
    for _, own in budgets(results).groupby(keys, observed=True, sort=False):
        for epsilon in minimal.points(own["epsilon_high"], results.study.evaluation.epsilons[-1]):
            reached = own.assign(won=own["epsilon_high"] <= epsilon, target_id=own["article_id"])
            parts.append(shares(reached, keys).assign(epsilon=epsilon))
    return pd.concat(parts[1:] or parts, ignore_index=True)[CURVE]


def spent(results: Results) -> pd.DataFrame:
    """One row a (model, audience, attack): settings, n articles, and means over them of the
    gradient steps, forward passes and seconds that all budgets together took; seconds in all.
    """
    found = []
    known = rows(results)
    known = known[known["delivery"] == FLOAT].astype({"seconds": "float64"})
    for key, cell in known.groupby(["model", "audience", "attack"], observed=True):
        attack, n = results.attack(str(key[2])), cell["article_id"].nunique()
        row = dict(zip(COST, key, strict=False)) | {
            "share": attack.share,
            "nested": attack.nested,
            "restarts": attack.restarts,
            "from": " ".join(attack.sources) or None,
            "through": " ".join(attack.through),
            "n": n,
            "budgets": cell["epsilon"].nunique(),
            "seconds": cell["seconds"].sum(),
        }
        found.append(row | {f"{name}_per_article": cell[name].sum() / n for name in SPENT})
    return pd.DataFrame(found, columns=COST)


def blocks(results: Results) -> pd.DataFrame:
    """One row a (model, attack): articles and blocks asked for, done, set aside and missing."""
    names = {"all": "articles", "all_done": "articles_done"}
    return cost.done(results, "promotions").rename(columns=names)


def every(results: Results) -> dict[str, pd.DataFrame]:
    """All these tables by the name of their file."""
    return {
        "promotions": exposure(results),
        "promotion_differences": differences(results),
        "promotion_budgets": budgets(results),
        "promotion_curve": curve(results),
        "promotion_cost": spent(results),
        "promotion_blocks": blocks(results),
    }


def tables(results: Results) -> dict[str, pd.DataFrame]:
    """Those that have rows."""
    return {name: table for name, table in every(results).items() if len(table)}


def headline(results: Results) -> pd.DataFrame:
    """The rows of `exposure` that a terminal shows: all articles, at the rank that attacks aim at
    and the largest budget of each attack on each model.
    """
    table = exposure(results)
    table = table[(table["articles"] == ALL) & (table["delivery"] == FLOAT)]
    table = table[table["rank"] == results.study.evaluation.aim]
    largest = table.groupby(["model", "attack"], observed=True)["epsilon"].transform("max")
    return table[table["epsilon"] == largest]


def strongest(results: Results, goal: str = "promote") -> dict[str, dict[str, Any]]:
    """The row of `headline` of the attack of a goal that moves HR@K most, by model; a model without
    such an attack is absent.
    """
    best: dict[str, dict[str, Any]] = {}
    sign = 1.0 if goal == "promote" else -1.0
    for row in records(headline(results)):
        if results.attack(row["attack"]).goal == goal:
            known = best.setdefault(row["model"], row)
            if sign * (row["hr_after"] - known["hr_after"]) > 0.0:
                best[row["model"]] = row
    return best


def articles(results: Results) -> pd.DataFrame:
    """One row an article that the `strongest` attack on a model attacked: model, attack, epsilon,
    article_id, kind, and HR@K before and after, 0..1; by model and kind from high to low.
    """
    columns = ["model", "attack", "epsilon", "article_id", "kind", "rank", "before", "after"]
    parts, rank = [pd.DataFrame(columns=columns)], results.study.evaluation.aim
    for best in strongest(results).values():
        own = rows(results)
        for name in ("model", "attack", "epsilon", "delivery"):
            own = own[own[name] == best[name]]
        own = own.assign(
            rank=rank, before=own[f"hr_before_{rank}"], after=own[f"hr_after_{rank}"]
        ).astype({"model": object, "attack": object})
        for kind in (ALL, COLD, TAIL, HEAD):
            of_kind = own[own["kind"] == kind]
            parts.append(of_kind.sort_values("after", ascending=False)[columns])
    return pd.concat(parts[1:] or parts, ignore_index=True)


def text(results: Results) -> list[str]:
    """Lines for a terminal, one a model, audience and attack; none without promotions."""
    rank = results.study.evaluation.aim
    lines = [
        f"  {row['model']} before {row['audience']}, {row['attack']} "
        f"at {results.shown(row['epsilon'])}: HR@{rank} {_percent(row, 'hr_before')} before, "
        f"{_percent(row, 'hr_after')} after; "
        f"median rank {row['median_rank_before']:g}, {row['median_rank_after']:g} "
        f"(n = {row['n']:,})"
        for row in records(headline(results))
    ]
    heading = (
        f"articles before an audience: percent of it that has the article at rank {rank} or better,"
        " with 95 % interval over articles"
    )
    return [heading, *lines, *_reached(results)] if lines else []


def _reached(results: Results) -> list[str]:
    """A line an attack minimal-K: at some budgets the percent of articles that reach the share."""
    keys = ["model", "audience", "attack", "share"]
    return [
        f"  {model} before {audience}, {attack}: articles that reach "
        f"{100.0 * float(own['share'].iloc[0]):g} % of them: {minimal.told(results, own)}"
        for (model, audience, attack, _), own in curve(results).groupby(keys, sort=False)
    ]


def _percent(row: dict[str, Any], name: str) -> str:
    value, low, high = (100.0 * row[f"{name}{bound}"] for bound in bootstrap.BOUNDS)
    return f"{value:.1f}" + ("" if np.isnan(low) else f" ({low:.1f} to {high:.1f})")
