"""Hybrid recommenders of a study, from its interactions to the report: each stage, what a killed
training leaves, and what is refused.
"""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.numpy import load_file

from advrec.catalog.dataset import Catalog
from advrec.reports import results
from advrec.reports.tables import utility
from advrec.run.directory import Run
from advrec.run.files import read_json
from advrec.run.tables import read_embeddings
from tests.commands import advrec, kill_when
from tests.runs import write_study

HYBRIDS = {
    "vbpr": {"recommender": "vbpr", "encoder": "unsecured", "factors": 4, "epochs": 3},
    "amr": {"recommender": "amr", "encoder": "unsecured", "epochs": 2, "clean_epochs": 1},
    "bpr": {"recommender": "bpr", "encoder": "unsecured", "epochs": 2},
}


def buy(directory, names, seed=0):
    """Write bought.csv: 40 users, six articles each; some articles are bought by nobody."""
    random = np.random.default_rng(seed)
    lines = [
        f"user {user},{names[article]}"
        for user in range(40)
        for article in random.permutation(len(names) - 30)[:6]
    ]
    (directory / "bought.csv").write_text("\n".join(["user,article", *lines]) + "\n")


def write(directory, ready, **changes):
    models = {"unsecured": {"defense": "none", "epochs": 1}, **(HYBRIDS | changes)}
    section = {"file": "bought.csv"}
    path = directory / "shop.yaml"
    write_study(path, ready, evaluation={"promoted": 2}, models={}, interactions=section)
    content = yaml.safe_load(path.read_text()) | {"models": models}
    path.write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture(scope="module")
def shop(tmp_path_factory, ready):
    """A directory with the study shop.yaml, whose stages have all run. Read only."""
    directory = tmp_path_factory.mktemp("shop")
    shutil.copytree(ready.directory, directory / "results" / "shop")
    buy(directory, Catalog(ready).names)
    write(directory, ready)
    done = advrec("study", "shop.yaml", cwd=directory)
    assert done.returncode == 0, done.stderr
    return directory, done


def copied(shop, tmp_path):
    """A copy of a directory of a study, whose paths stay those of the first."""
    shutil.copytree(shop[0], tmp_path, dirs_exist_ok=True)
    return tmp_path, Run(tmp_path / "results" / "shop")


@pytest.mark.parametrize("learning_rate", [1e30, 1e18])
def test_a_training_that_diverges_is_told_the_remedy(shop, tmp_path, ready, learning_rate):
    """By values that are not finite, or by those whose products float32 does not hold."""
    directory, run = copied(shop, tmp_path)
    shutil.rmtree(run.model("vbpr"))
    write(directory, ready, vbpr=HYBRIDS["vbpr"] | {"learning_rate": learning_rate})
    for _ in range(2):  # nor is a checkpoint in the way
        ended = advrec("train", "shop.yaml", cwd=directory)
        assert ended.returncode == 1
        assert "models.vbpr: its training diverges (" in ended.stderr
        assert f"); lower learning_rate, which is {learning_rate:g}" in ended.stderr
        assert "Traceback" not in ended.stderr
    assert not run.is_trained("vbpr")
    write(directory, ready)
    assert advrec("train", "shop.yaml", cwd=directory).returncode == 0


def test_all_stages_pass_and_say_what_hybrids_are_worth(shop):
    directory, done = shop
    assert "AUC of held-out purchases" in done.stderr + done.stdout
    assert "held-out purchases of users" in done.stdout
    run = Run(directory / "results" / "shop")
    assert not run.training("vbpr").exists()
    read = results.read(run)
    assert list(read.study.models) == ["unsecured"]
    assert set(utility.utility(read)["model"]) == {*HYBRIDS}
    assert set(utility.feature_attacks(read)["model"]) == {*HYBRIDS}
    page = (run.report / "index.html").read_text()
    assert "Recommendations to users" in page
    assert (run.report / "tables" / "feature_attacks.csv").exists()
    again = advrec("train", "shop.yaml", cwd=directory)
    assert again.returncode == 0
    for model in HYBRIDS:
        assert f"train {model}: done before" in again.stdout
    status = advrec("status", "results/shop", cwd=directory)
    assert "train     amr: done" in status.stdout


def test_09_a_saved_hybrid_ranks_by_numpy_alone_without_the_training_set(shop):
    run = Run(shop[0] / "results" / "shop")
    dimension = len(load_file(run.bank("vbpr"))["visual_bias"])
    f = read_embeddings(run, "unsecured", dimension).astype(np.float64)
    held = pq.read_table(run.interactions).to_pandas().query("held_out")
    for model in HYBRIDS:
        bank = {name: each.astype(np.float64) for name, each in load_file(run.bank(model)).items()}
        scores = bank["item_bias"] + bank["user_factors"] @ bank["item_factors"].T
        scores += bank["user_visual"] @ (bank["projection"] @ f.T) + bank["visual_bias"] @ f.T
        seen = pq.read_table(run.seen(model))
        scores[seen["query_id"], seen["article_id"]] = -np.inf
        own = scores[held["query_id"], held["article_id"]]
        rivals = scores[held["query_id"]]
        ranks = 1 + (rivals > own[:, None] + 1e-9).sum(axis=1)
        metrics = read_json(run.model(model) / "metrics.json")
        found = {
            row["quantity"]: row["value"]
            for row in metrics["utility"]
            if (row["by"], row["articles"]) == ("model", "all")
        }
        assert found["hr@10"] == pytest.approx((ranks <= 10).mean(), abs=1e-3)
        assert found["auc"] == pytest.approx(
            np.mean(
                (np.isfinite(rivals).sum(axis=1) - ranks) / (np.isfinite(rivals).sum(axis=1) - 1)
            ),
            abs=1e-3,
        )
        owners = pq.read_table(run.users_of(model))["user"].to_pylist()
        assert owners == pq.read_table(run.users)["user"].to_pylist()


def test_09_a_training_that_is_killed_goes_on_and_ends_with_the_same_factors(shop, ready, tmp_path):
    directory, run = copied(shop, tmp_path)
    long = {"vbpr": HYBRIDS["vbpr"] | {"epochs": 60}}
    write(directory, ready, **long)
    shutil.rmtree(run.model("vbpr"))

    def begun():
        return any(run.training("vbpr").glob("*/state.safetensors"))

    kill_when(begun, "train", "shop.yaml", cwd=directory)
    assert not run.bank("vbpr").exists()
    done = advrec("train", "shop.yaml", cwd=directory)
    assert done.returncode == 0, done.stderr
    assert "60 epochs done before" in done.stderr
    first = run.bank("vbpr").read_bytes()
    shutil.rmtree(run.model("vbpr"))
    assert advrec("train", "shop.yaml", cwd=directory).returncode == 0
    assert run.bank("vbpr").read_bytes() == first


def test_a_hybrid_whose_entry_or_purchases_differ_is_refused(shop, ready, tmp_path):
    directory, _ = copied(shop, tmp_path)
    write(directory, ready, vbpr=HYBRIDS["vbpr"] | {"epochs": 4})
    refused = advrec("train", "shop.yaml", cwd=directory)
    assert refused.returncode == 2
    assert "models/vbpr made with epochs = 3, the study says 4" in refused.stderr
    write(directory, ready)
    buy(directory, Catalog(ready).names, seed=1)
    refused = advrec("train", "shop.yaml", cwd=directory)
    assert refused.returncode == 2
    assert "interactions" in refused.stderr


def test_other_weights_of_its_encoder_are_other_weights_of_a_hybrid(shop, ready, tmp_path):
    directory, run = copied(shop, tmp_path)
    with run.weights("unsecured").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\1\2\3\4")
    refused = advrec("evaluate", "shop.yaml", cwd=directory)
    assert refused.returncode == 2
    assert "weights of unsecured" in refused.stderr


def test_a_dry_run_names_hybrids_and_writes_nothing(ready, tmp_path):
    shutil.copytree(ready.directory, tmp_path / "results" / "shop")
    buy(tmp_path, Catalog(ready).names)
    write(tmp_path, ready)
    shown = advrec("study", "shop.yaml", "--dry-run", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "train     vbpr: to do" in shown.stdout
    assert not Run(tmp_path / "results" / "shop").model("vbpr").exists()
    early = advrec("train", "shop.yaml", cwd=tmp_path)
    assert early.returncode == 1
    assert "the interactions are not prepared" in early.stderr


def test_commands_on_one_encoder_refuse_a_hybrid(shop):
    for command in (
        ("recommend", "shop.yaml", "--model", "vbpr", "1"),
        ("export", "results/shop", "--model", "vbpr", "vbpr.pt"),
    ):
        refused = advrec(*command, cwd=shop[0])
        assert refused.returncode == 2
        assert "encoder" in refused.stderr


def test_a_users_list_is_that_of_numpy_alone(shop):
    directory, run = shop[0], Run(shop[0] / "results" / "shop")
    names = pq.read_table(run.users)["user"].to_pylist()
    query = 7
    held = pq.read_table(run.interactions).to_pandas().query("held_out and query_id == @query")
    for model in HYBRIDS:
        bank = {name: each.astype(np.float64) for name, each in load_file(run.bank(model)).items()}
        f = read_embeddings(run, "unsecured", len(bank["visual_bias"])).astype(np.float64)
        f -= f.mean(axis=0)  # which changes all scores of a user by the same
        scores = bank["item_bias"] + bank["item_factors"] @ bank["user_factors"][query]
        scores += f @ bank["projection"].T @ bank["user_visual"][query] + f @ bank["visual_bias"]
        seen = pq.read_table(run.seen(model)).to_pandas().query("query_id == @query").article_id
        open_to = np.setdiff1d(np.arange(len(f)), seen)
        best = open_to[np.argsort(-scores[open_to], kind="stable")]
        for k, given in ((10, ()), (len(best), ("-k", len(best)))):
            done = advrec(
                *("recommend", "shop.yaml", "--model", model, "--user", names[query], *given),
                cwd=directory,
            )
            assert done.returncode == 0, done.stderr
            lines = [line.split() for line in done.stdout.splitlines()[1:-1]]
            assert [int(line[0]) for line in lines] == [*range(1, k + 1)]
            found, shown = (np.array([float(line[place]) for line in lines]) for place in (1, 2))
            assert shown == pytest.approx(scores[found.astype(int)], abs=6e-5)
            assert scores[found.astype(int)] == pytest.approx(scores[best[:k]], rel=1e-5, abs=1e-6)
            assert len(set(found)) == k
            marked = [line[1] for line in lines if "held" in line]
            assert marked == [str(each) for each in held.article_id if each in found]
        assert (run.directory / "pictures" / f"recommend-{model}-user-{query}.png").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("vbpr", "--user", "user 777"), "is none of the 40 users of the interactions; did you"),
        (("unsecured", "--user", "user 7"), "not to a user; name a hybrid of the study (vbpr, amr"),
        (("vbbr", "--user", "user 7"), "its hybrids: vbpr, amr, bpr; did you mean vbpr?"),
        (("vbpr", "--user", "user 7", "-k", "0"), "-k is 0: user user 7 has not bought 1.."),
        (("vbpr", "--user", "user 7", "12"), "--user asks for a user, ID for an article"),
        (("vbpr", "--user", "user 7", "--hnsw"), "--user asks for a user, --hnsw for an article"),
        (("vbpr", "12"), "or ask `advrec recommend --user`"),
        (("vbpr",), "the following arguments are required: ID"),
    ],
)
def test_a_wrong_question_for_a_list_gets_one_sentence(shop, arguments, said):
    done = advrec("recommend", "shop.yaml", "--model", *arguments, cwd=shop[0])
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
