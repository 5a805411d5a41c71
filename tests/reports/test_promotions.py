"""The report of audiences, against pandas on invented ranks of every user for every article."""

import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from advrec.errors import AdvrecError, ConfigError
from advrec.evaluation import bootstrap
from advrec.evaluation.rates import wilson
from advrec.reports import junit, results, terminal
from advrec.reports.page.banners import banners
from advrec.reports.report import write_report
from advrec.reports.tables import gates, reached
from advrec.reports.tables import promotions as tables
from advrec.reports.tables.against import compare
from advrec.reports.tables.every import all_tables
from advrec.run import interactions as sold
from advrec.run import promotions, schema
from advrec.run.directory import Run
from advrec.run.files import write_json, write_table, write_text
from tests.reports.conftest import Maker

USERS, ARTICLES, BLOCK, KEPT, RANKS = 40, 12, 5, 4, (1, 10)
PROMOTED = np.array([25, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13], dtype=np.int32)
EPSILONS = (0.01, 0.05)
ATTACKS = ("fgsm", "hit", "score", "small")


def purchases():
    """User u has bought the articles 0 to u // 4 and, last and held out, article 13, which stays
    cold.
    """
    pairs = [(user, article) for user in range(USERS) for article in range(user // 4 + 1)]
    table = pd.DataFrame(pairs, columns=["query_id", "article_id"]).assign(held_out=False)
    last = pd.DataFrame({"query_id": range(USERS), "article_id": 13, "held_out": True})
    table = pd.concat([table, last]).sort_values(["query_id", "held_out"], kind="stable")
    return table.assign(place=table.groupby("query_id").cumcount())


def invented():
    """Ranks of every user for every article before and after each attack at each budget."""
    random = np.random.default_rng(3)
    bought = purchases().query("~held_out")[["query_id", "article_id"]]
    parts = []
    for model in ("vbpr", "bpr"):
        for article in PROMOTED:
            before = random.integers(1, 31, USERS)
            for attack in ATTACKS:
                for place, epsilon in enumerate(EPSILONS):
                    gain = 3 * (place + 1) * (1 + ATTACKS.index(attack))
                    after = np.maximum(before - random.integers(-3, gain, USERS), 1)
                    ranks = {"query_id": range(USERS), "rank_before": before, "rank_after": after}
                    key = {"model": model, "attack": attack, "article_id": article}
                    parts.append(pd.DataFrame(ranks).assign(**key, epsilon=epsilon))
    table = pd.concat(parts, ignore_index=True)
    known = table.merge(bought, how="left", indicator=True)["_merge"] == "both"
    return table.assign(owns=known.to_numpy())


def worth(table):
    """Columns of promotions of a table of ranks, one row an article and budget."""
    rows = []
    for (article, epsilon), own in table[~table["owns"]].groupby(["article_id", "epsilon"]):
        row = {"article_id": article, "epsilon": epsilon, "audience_size": len(own)}
        for when in ("before", "after"):
            ranks = own[f"rank_{when}"]
            row[f"median_rank_{when}"] = ranks.median()
            for k in RANKS:
                row[f"hr_{when}_{k}"] = (ranks <= k).mean()
                row[f"ndcg_{when}_{k}"] = ((ranks <= k) / np.log2(ranks + 1)).mean()
        rows.append(row | {"improved": (own["rank_after"] < own["rank_before"]).mean()})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def promoted(tmp_path_factory):
    """A run with two hybrids, whose promotions are all there, and the ranks behind them. Read only:
    copy it.
    """
    maker = Maker(tmp_path_factory.mktemp("promoted"))
    run = maker(attacks=["fgsm"], tuples=8, block=BLOCK)
    study = yaml.safe_load(run.study.read_text())
    study["interactions"] = {"file": "bought.csv"}
    study["models"] |= {
        kind: {"recommender": kind, "encoder": "unsecured"} for kind in ("vbpr", "bpr")
    }
    study["evaluation"] |= {
        "audience": ["neighbours", "users"],
        "promoted": ARTICLES,
        "ranks": [1, 10],
        "attacks": [
            "fgsm",
            {"name": "hit", "attack": "pgd-8", "share": 0.5},
            {"name": "score", "attack": "pgd-8", "loss": "score"},
            {"name": "small", "attack": "minimal-10", "share": 0.5},
        ],
    }
    write_text(run.study, yaml.safe_dump(study, sort_keys=False))
    content = purchases()[sold.INTERACTIONS.names].to_dict("list")
    write_table(run.interactions, schema.table(sold.INTERACTIONS, content))
    ranks = invented()
    for (model, attack), own in ranks.groupby(["model", "attack"]):
        whole = worth(own).assign(audience="users", score_shift=0.1, linf=0.01, l2=0.1)
        whole = whole.assign(raw_linf=0.01, gradient_steps=8, forward_passes=9, seconds=0.5)
        whole = whole.assign(batch=96, winner=attack, inherited=False)
        columns = promotions.promotions(RANKS)
        if attack == "small":
            high = np.where(whole["article_id"] % 2, 0.02, np.inf)
            whole = whole.assign(epsilon_low=0.005, epsilon_high=high)
            bounds = [pa.field(name, pa.float64()) for name in ("epsilon_low", "epsilon_high")]
            columns = pa.schema([*columns, *bounds])
        for block, ids in enumerate(np.split(PROMOTED, range(BLOCK, ARTICLES, BLOCK))):
            part = whole[whole["article_id"].isin(ids)].to_dict("list")
            place = run.block(model, attack, block, "promotions")
            write_table(place, schema.table(columns, part))
            kept = own[own["article_id"].isin(ids) & own["article_id"].isin(PROMOTED[:KEPT])]
            kept = kept[promotions.RANKS.names].to_dict("list")
            place = run.block(model, attack, block, "promotion_ranks")
            if kept["rank_after"]:
                write_table(place, schema.table(promotions.RANKS, kept))
    users = {
        "query_id": range(USERS),
        "user": [f"u{user}" for user in range(USERS)],
        "purchases": purchases().groupby("query_id").size().tolist(),
        "group": [user % 3 for user in range(USERS)],
    }
    write_table(run.users, schema.table(sold.users(pa.string(), drawn=True), users))
    seen = purchases().query("~held_out")[sold.SEEN.names].to_dict("list")
    for model in ("vbpr", "bpr"):
        write_table(run.seen(model), schema.table(sold.SEEN, seen))
    return run, ranks


def test_exposure_is_what_pandas_counts_of_every_users_rank(promoted):
    run, ranks = promoted
    table = tables.exposure(results.read(run))
    counts = purchases().query("~held_out")["article_id"].value_counts()
    head = set(counts[counts >= np.quantile(counts, 0.8)].index)
    kinds = {"all": set(PROMOTED), "cold": set(PROMOTED) - set(counts.index)}
    kinds |= {"head": set(PROMOTED) & head, "tail": set(PROMOTED) & set(counts.index) - head}
    assert all(len(kinds[kind]) >= 1 for kind in ("cold", "tail"))
    assert list(dict.fromkeys(zip(table["model"], table["attack"], strict=True))) == [
        (model, attack) for model in ("vbpr", "bpr") for attack in ATTACKS
    ]
    assert len(table) == 2 * 4 * 2 * 2 * sum(map(bool, kinds.values()))
    for row in table.itertuples():
        own = ranks[(ranks.model == row.model) & (ranks.attack == row.attack)]
        own = own[(own.epsilon == row.epsilon) & own.article_id.isin(kinds[row.articles])]
        own = own[~own.owns]
        assert row.n == len(kinds[row.articles])
        before, after = (
            (own[f"rank_{when}"] <= row.rank).groupby(own.article_id).mean()
            for when in ("before", "after")
        )
        gains = (own.rank_after <= row.rank) / np.log2(own.rank_after + 1)
        assert row.hr_before == pytest.approx(before.mean())
        assert row.hr_after == pytest.approx(after.mean())
        assert row.hr_change == pytest.approx((after - before).mean())
        assert row.ndcg_after == pytest.approx(gains.groupby(own.article_id).mean().mean())
        assert row.raised == pytest.approx((after > before).mean())
        medians = own.groupby("article_id").rank_after.median()
        assert row.median_rank_after == pytest.approx(medians.median())
        assert np.isnan(row.hr_after_low) if row.n == 1 else row.hr_after_low <= row.hr_after


def test_differences_are_paired_over_articles(promoted):
    run, ranks = promoted
    table = tables.differences(results.read(run))
    row = table[(table.model == "vbpr") & (table.attack == "hit") & (table.other == "score")].query(
        "epsilon == 0.05 and rank == 10"
    )
    own = ranks[(ranks.model == "vbpr") & (ranks.epsilon == 0.05) & ~ranks.owns]
    hits = (own.rank_after <= 10).groupby([own.attack, own.article_id]).mean()
    paired = (hits["hit"] - hits["score"]).to_numpy()
    assert row.hr_difference.item() == pytest.approx(paired.mean())
    random = np.random.default_rng(1)
    drawn = [random.choice(paired, len(paired)).mean() for _ in range(4000)]
    bounds = row[["hr_difference_low", "hr_difference_high"]].to_numpy()[0]
    assert bounds == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=0.1 * paired.std())
    assert len(table) == 2 * 6 * 2 * 2


def test_gates_before_users_judge_the_bootstrap_over_articles(promoted, tmp_path):
    run, ranks = promoted
    own = ranks[(ranks.model == "vbpr") & (ranks.attack == "hit") & (ranks.epsilon == 0.05)]
    hits = (own[~own.owns].rank_after <= 10).groupby(own.article_id).mean().to_numpy()
    random = np.random.default_rng(1)
    drawn = [random.choice(hits, len(hits)).mean() for _ in range(4000)]
    low, high = 100 * np.quantile(drawn, (0.025, 0.975))
    gate = {"model": "vbpr", "attack": "hit", "epsilon": 0.05, "rank": 10}
    limits = [low - 2, low + 2]
    run = Run(shutil.copytree(run.directory, tmp_path / "run"))
    study = yaml.safe_load(run.study.read_text())
    study["fail_if"] = [gate | {"above": float(limit)} for limit in limits]
    write_text(run.study, yaml.safe_dump(study, sort_keys=False))
    failed, passed = gates.judge(results.read(run))
    assert (failed.verdict, passed.verdict) == ("failed", "passed")
    said = failed.measured
    assert said["percent"] == pytest.approx(100 * hits.mean())
    assert [said["low_percent"], said["high_percent"]] == pytest.approx([low, high], abs=1)
    assert failed.name == "hit on vbpr before users at epsilon 0.05, rank 10"
    assert failed.seconds == pytest.approx(0.5 * ARTICLES)
    table = gates.gates(results.read(run))
    assert table["audience"].tolist() == ["users"] * 2
    assert table["n"].tolist() == [ARTICLES] * 2
    junit.write(results.read(run), tmp_path / "gates.xml")
    assert 'failure message="gate failed: hit on vbpr' in (tmp_path / "gates.xml").read_text()
    page = write_report(results.read(run)).read_text()
    assert failed.reason.replace("@", "@") in page
    run.block("vbpr", "hit", 1, "promotions").unlink()
    assert [each.verdict for each in gates.judge(results.read(run))] == ["not judged"] * 2
    for block in (0, 2):
        run.block("vbpr", "hit", block, "promotions").unlink()
    keys = [f"promotions/vbpr/hit/{block}" for block in range(3)]
    write_json(run.directory / "set_aside.json", dict.fromkeys(keys, "it was too hot"))
    none = gates.judge(results.read(run))
    assert [each.verdict for each in none] == ["failed"] * 2
    assert "nothing was measured" in none[0].reason


def test_a_gate_on_one_article_has_no_interval_and_fails(promoted, tmp_path):
    run = Run(shutil.copytree(promoted[0].directory, tmp_path / "run"))
    gate = {"model": "vbpr", "attack": "hit", "epsilon": 0.05, "rank": 10, "above": 99.9}
    study = yaml.safe_load(run.study.read_text()) | {"fail_if": [gate]}
    study["evaluation"] |= {"promoted": 1, "block": 1}
    write_text(run.study, yaml.safe_dump(study, sort_keys=False))
    first = run.block("vbpr", "hit", 0, "promotions")
    own = pq.read_table(first)
    one = own.filter(pc.equal(own["article_id"], own["article_id"][0]))
    shutil.rmtree(run.promotions)
    write_table(first, one)
    (judged,) = gates.judge(results.read(run))
    assert judged.verdict == "failed"
    assert "of one article, which has no interval" in judged.reason


def test_taste_groups_are_counted_without_who_has_bought_the_article(promoted):
    run, ranks = promoted
    table = reached.groups(results.read(run))
    assert len(table) == 2 * 4 * 2 * 3 * 2
    for row in table.itertuples():
        own = ranks[(ranks.model == row.model) & (ranks.attack == row.attack) & ~ranks.owns]
        own = own[own.article_id.isin(PROMOTED[:KEPT]) & (own.query_id % 3 == row.group)]
        own = own[own.epsilon == row.epsilon]
        hits = (own.rank_after <= row.rank).groupby(own.article_id).mean()
        assert row.hr_after == pytest.approx(hits.mean())
        assert row.n == KEPT
        assert row.users == own.query_id.nunique()


def test_the_page_says_what_one_picture_does(promoted, tmp_path):
    """Here of a study that leaves neighbours out."""
    run = Run(shutil.copytree(promoted[0].directory, tmp_path / "run"))
    shutil.rmtree(run.attacks)
    study = yaml.safe_load(run.study.read_text())
    study["evaluation"]["audience"] = "users"
    write_text(run.study, yaml.safe_dump(study, sort_keys=False))
    read = results.read(run)
    text = write_report(read).read_text()
    assert "12 promoted articles of the test split, 5 models" in text
    assert 'id="budget"' not in text
    assert "success" not in terminal.comparison_text(read)
    assert "vbpr before users" in terminal.comparison_text(read)
    best = tables.strongest(read)["vbpr"]
    exposure = tables.exposure(read).query("model == 'vbpr' and articles == 'all'")
    exposure = exposure.query("rank == 10 and epsilon == 0.05")
    assert best["hr_after"] == exposure["hr_after"].max()
    assert f"<b>vbpr</b>: one picture by the attack <b>{best['attack']}</b>" in text
    assert f"<strong>{100 * best['hr_after']:.1f}\u00a0%</strong>" in text
    for caption in ("Which articles rise", "Who is reached", "Smallest budgets that reach"):
        assert caption in text
    assert "half of 12 articles reach 50\u00a0% of the audience at budget epsilon 0.02" in text
    assert (run.report / "figures" / "promotions.svg").exists()
    dots = pd.read_csv(run.report / "figures" / "articles.csv")
    assert len(dots) == 2 * ARTICLES
    assert dots.groupby("model")["after"].mean()["vbpr"] == pytest.approx(best["hr_after"])


def test_smallest_budgets_stand_once_an_article(promoted):
    table = tables.budgets(results.read(promoted[0]))
    assert len(table) == 2 * ARTICLES
    assert set(table["share"]) == {0.5}
    odd = table["article_id"] % 2 == 1
    assert (np.isfinite(table["epsilon_high"]) == odd).all()


def test_curves_and_costs_count_articles(promoted):
    read = results.read(promoted[0])
    curve = tables.curve(read)
    assert curve.groupby(["model", "attack"]).ngroups == 2
    odd = np.mean([article % 2 for article in PROMOTED])
    for row in curve.itertuples():
        assert row.n == ARTICLES
        assert row.percent == pytest.approx(100 * odd if row.epsilon >= 0.02 else 0.0)
    assert set(curve["epsilon"]) == {0.0, 0.02, 0.05}
    low, high = (100 * float(each) for each in wilson(odd * ARTICLES, ARTICLES))
    assert curve["low_percent"].iloc[-1] == pytest.approx(low)
    assert curve["high_percent"].iloc[-1] == pytest.approx(high)
    spent = tables.spent(read)
    assert len(spent) == 2 * len(ATTACKS)
    per_article = spent[[f"{name}_per_article" for name in tables.SPENT]].drop_duplicates()
    assert per_article.to_numpy().tolist() == [[16.0, 18.0, 1.0]]  # two budgets
    assert set(spent["seconds"]) == {1.0 * ARTICLES}
    said = terminal.comparison_text(read)
    assert "vbpr before users, small: articles that reach 50 % of them: " in said


def test_two_runs_are_compared_on_the_articles_that_both_attacked(promoted, tmp_path):
    run, ranks = promoted
    other = Run(shutil.copytree(run.directory, tmp_path / "other"))
    other.block("vbpr", "hit", 0, "promotions").unlink()
    path = other.block("vbpr", "hit", 1, "promotions")
    table = pq.read_table(path)
    place = table.column_names.index("hr_after_10")
    nobody = pa.array(np.zeros(len(table)))
    write_table(path, table.set_column(place, table.schema.field(place), nobody))
    compared = compare(results.read(run), results.read(other))
    made = compared.promotions
    assert len(made) == 2 * 4 * 2
    row = made.query("model == 'vbpr' and attack == 'hit' and epsilon == 0.05").iloc[0]
    own = ranks[(ranks.model == "vbpr") & (ranks.attack == "hit") & (ranks.epsilon == 0.05)]
    hits = (own[~own.owns].rank_after <= 10).groupby(own.article_id).mean()
    changed, same = hits[PROMOTED[BLOCK : 2 * BLOCK]], hits[PROMOTED[2 * BLOCK :]]
    both = np.concatenate([changed, same])
    differences = np.concatenate([changed, np.zeros(len(same))])
    assert row.n == len(both) == 7
    assert row.hr_after == pytest.approx(both.mean())
    assert row.hr_difference == pytest.approx(differences.mean())
    random = np.random.default_rng(1)
    drawn = [random.choice(differences, 7).mean() for _ in range(4000)]
    expected = np.quantile(drawn, (0.025, 0.975))
    bounds = [row.hr_difference_low, row.hr_difference_high]
    assert bounds == pytest.approx(expected, abs=0.08)
    others = made[(made.model == "bpr") | (made.attack != "hit")]
    assert (others[["hr_difference", "hr_difference_low", "hr_difference_high"]] == 0.0).all(None)
    text = terminal.comparison_text(results.read(run), compared)
    assert "on the promoted articles of both: 2 of 16 cells differ" in text
    assert "  hit on vbpr before users at 0.05, float: HR@10" in text
    run = Run(shutil.copytree(run.directory, tmp_path / "run"))
    page = write_report(results.read(run), compared=compared).read_text()
    assert "HR@10 after the attack, on the articles that both runs attacked" in page
    assert (run.report / "tables" / "promotions_against.csv").exists()


def test_runs_without_a_common_tuple_are_compared_by_their_articles(promoted, tmp_path):
    run = Run(shutil.copytree(promoted[0].directory, tmp_path / "run"))
    shutil.rmtree(run.attacks)
    study = yaml.safe_load(run.study.read_text())
    study["evaluation"]["audience"] = "users"
    write_text(run.study, yaml.safe_dump(study, sort_keys=False))
    users = pq.read_table(run.users).to_pydict()
    users["user"][0] = "stranger"
    write_table(run.users, schema.table(sold.users(pa.string(), drawn=True), users))
    compared = compare(results.read(run), results.read(promoted[0]))
    assert compared.rows.empty
    assert "The audience users is another there: other users." in compared.notes
    text = terminal.comparison_text(results.read(run), compared)
    assert "on the tuples of both" not in text
    assert "0 of 16 cells differ" in text
    assert "Compared with" in write_report(results.read(run), compared=compared).read_text()
    assert not (run.report / "tables" / "against.csv").exists()


def test_missing_blocks_of_promotions_make_a_report_partial(promoted, tmp_path):
    run = Run(shutil.copytree(promoted[0].directory, tmp_path / "run"))
    assert not [each for each in banners(results.read(run)) if "issing" in each.text]
    run.block("vbpr", "score", 2, "promotions").unlink()
    read = results.read(run)
    with pytest.raises(ConfigError, match="1 of 30 blocks are missing"):
        write_report(read)
    (banner,) = (each for each in banners(read) if each.text.startswith("Partial"))
    assert banner.details == ["score on vbpr: 10 of 12 articles"]
    assert "PARTIAL: 1 of 30 blocks" in terminal.comparison_text(read)
    run.block("vbpr", "score", 1, "promotions").unlink()
    write_json(run.directory / "set_aside.json", {"promotions/vbpr/score/2": "it was too hot"})
    (banner,) = (each for each in banners(results.read(run)) if each.text.startswith("Set aside"))
    assert "1 of 30 blocks" in banner.text
    blocks = tables.blocks(results.read(run)).set_index(["model", "attack"])
    found = blocks.loc[("vbpr", "score"), ["articles_done", "done", "set_aside", "missing"]]
    assert found.tolist() == [5, 1, 1, 1]
    exposure = tables.exposure(results.read(run)).query("articles == 'all'")
    assert exposure.groupby(["model", "attack"], observed=True)["n"].max()["vbpr", "score"] == 5


def test_a_copied_block_is_refused(promoted, tmp_path):
    run = Run(shutil.copytree(promoted[0].directory, tmp_path / "run"))
    columns = promotions.promotions(RANKS)
    first = run.block("vbpr", "score", 0, "promotions")
    table = pq.read_table(first).slice(1)
    write_table(run.block("vbpr", "score", 7, "promotions"), table.cast(columns))
    with pytest.raises(AdvrecError, match="rows of score on vbpr stand there twice"):
        tables.rows(results.read(run))


def test_a_terminal_says_who_stands_before_how_many(promoted):
    run, ranks = promoted
    lines = terminal.comparison_text(results.read(run)).splitlines()
    (line,) = (line for line in lines if line.startswith("  vbpr before users, score at 0.05"))
    own = ranks[(ranks.model == "vbpr") & (ranks.attack == "score") & (ranks.epsilon == 0.05)]
    own = own[~own.owns]
    percent = 100 * (own.rank_after <= 10).groupby(own.article_id).mean().mean()
    assert f"before, {percent:.1f} (" in line
    # Attacks on audiences alone are no attacks on tuples.
    assert not [line for line in lines if line.startswith("success of score")]


def test_a_run_without_audiences_has_none_of_these_tables(make_run):
    read = results.read(make_run())
    assert not [name for name in all_tables(read) if name.startswith("promotion")]
    assert all(len(table.columns) > 4 for table in tables.every(read).values())


def test_a_bootstrap_has_the_width_of_the_normal_interval_and_none_for_one_value():
    values = np.random.default_rng(0).normal(3.0, 2.0, (400, 2))
    means = bootstrap.means(values)
    assert means.value == pytest.approx(values.mean(axis=0))
    normal = 2 * 1.96 * values.std(axis=0) / 20
    assert means.high - means.low == pytest.approx(normal, rel=0.08)
    assert np.isnan(bootstrap.means(values[:1]).low).all()
