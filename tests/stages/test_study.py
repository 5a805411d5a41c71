"""The whole way, as a user goes it: real commands on a small study, killed, resumed, extended and
refused.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import yaml
from PIL import Image

from advrec.catalog.dataset import Catalog
from advrec.run.directory import Run
from tests.commands import ADVREC, kill_when
from tests.commands import advrec_process as advrec
from tests.conftest import STUDY
from tests.runs import blocks, rows

pytestmark = pytest.mark.ray


def write(path: Path, **changes) -> Path:
    path.write_text(
        yaml.safe_dump({**STUDY, "resources": {"actors": 2, "training_workers": 2}, **changes})
    )
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A finished run of STUDY in <place>/results/tiny."""
    directory = tmp_path_factory.mktemp("study")
    done = advrec("study", write(directory / "tiny.yaml"), cwd=directory)
    assert done.returncode == 0, done.stderr
    assert "report/index.html" in done.stdout
    return directory


def test_the_run_directory_is_what_the_contract_says(place):
    run = place / "results" / "tiny"
    for name in (
        "study.yaml",
        "provenance.json",
        "catalog.parquet",
        "tuples.parquet",
        "report/index.html",
    ):
        assert (run / name).exists(), name
    for name in ("model.safetensors", "metrics.json", "history.parquet"):
        assert (run / "models" / "unsecured" / name).exists(), name
    assert list((run / "models" / "unsecured" / "tensorboard").glob("events*"))
    table = rows(run)
    assert len(table) == 2 * 12 * 2
    assert set(table.columns) >= {
        "model",
        "attack",
        "tuple_id",
        "epsilon",
        "adversarial_rank",
        "linf",
        "gradient_steps",
    }
    assert not table.duplicated(["model", "attack", "tuple_id", "epsilon"]).any()
    assert (table.linf <= table.epsilon + 1e-8).all()
    assert (table[table.attack == "pgd-2"].gradient_steps == 2).all()


def test_a_second_run_computes_nothing_and_status_says_so(place):
    before = blocks(place / "results" / "tiny")
    again = advrec("study", "tiny.yaml", cwd=place)
    assert again.returncode == 0
    assert again.stdout.count("done before") == 3
    assert blocks(place / "results" / "tiny") == before
    status = advrec("status", "results/tiny", cwd=place)
    assert status.returncode == 0
    assert status.stdout.count("3 of 3 blocks done") == 2


def test_another_attack_computes_only_itself(place):
    before = blocks(place / "results" / "tiny")
    write(
        place / "more.yaml", evaluation=STUDY["evaluation"] | {"attacks": ["fgsm", "pgd-2", "cw-2"]}
    )
    assert advrec("evaluate", "more.yaml", cwd=place).returncode == 0
    after = blocks(place / "results" / "tiny")
    assert {name: after[name] for name in before} == before
    assert all("attack=cw-2" in name for name in set(after) - set(before))
    assert len(after) == len(before) + 3


def test_a_study_that_does_not_match_the_run_is_refused_by_name(place):
    before = blocks(place / "results" / "tiny")
    for override, part in {
        "models.unsecured.epochs=2": "models/unsecured made with epochs = 1, the study says 2",
        "catalog.articles=133": "catalog made with articles = 132, the study says 133",
        "evaluation.epsilons=[0.01]": "epsilons = [0.01, 0.05], the study says [0.01]",
        "evaluation.tuples=11": "tuples = 12, the study says 11",
        "seed=1": "seed = 42, the study says 1",
    }.items():
        refused = advrec("study", "tiny.yaml", "--set", override, cwd=place)
        assert refused.returncode == 2, override
        assert part in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert blocks(place / "results" / "tiny") == before


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--set", "evaluation.attacks=[pdg-8]"], "did you mean pgd-8"),
        (["--set", "evaluation.epsilons=[-0.1]"], "evaluation.epsilons.0 is -0.1"),
        (["--set", "evaluation.epsilon=1"], "did you mean epsilons"),
        (["--set", "catalog={source: folder, root: nowhere}"], "is not a directory"),
        (["--set", "seed"], "write --set key.path=value"),
        (["--set", "evaluation.tuples=pairs.csv"], "pairs.csv does not exist"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, arguments, part):
    refused = advrec("study", write(tmp_path / "bad.yaml"), *arguments, cwd=tmp_path)
    assert refused.returncode == 2
    assert part in refused.stderr
    assert refused.stderr.startswith("advrec: ")
    assert refused.stderr.count("\n") == 1


def test_an_evaluation_killed_with_9_goes_on_where_it_was(place, tmp_path):
    """No row missing, none twice, finished blocks not computed again, and the rows are those of the
    undisturbed run.
    """
    attacks = ["fgsm", "pgd-2", {"name": "slow", "attack": "pgd-150"}]
    study = write(tmp_path / "tiny.yaml", evaluation=STUDY["evaluation"] | {"attacks": attacks})
    run = tmp_path / "results" / "tiny"
    kill_when(lambda: len(blocks(run)) >= 6, "study", study, cwd=tmp_path)
    finished = blocks(run)
    assert 6 <= len(finished) < 9, "the kill came too late to show anything"
    assert advrec("study", study, cwd=tmp_path).returncode == 0
    after = blocks(run)
    assert {name: after[name] for name in finished} == finished
    assert len(after) == 9
    table, undisturbed = rows(run), rows(place / "results" / "tiny")
    assert not table.duplicated(["model", "attack", "tuple_id", "epsilon"]).any()
    assert len(table) == 3 * 12 * 2
    fast = ["fgsm", "pgd-2"]
    same = table[table.attack.isin(fast)].reset_index(drop=True)
    assert same.equals(undisturbed[undisturbed.attack.isin(fast)].reset_index(drop=True))


def test_tuples_of_a_csv_are_what_it_holds(place, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(place / "results" / "tiny", run)
    shutil.rmtree(run / "attacks")
    (run / "tuples.parquet").unlink()
    catalog = Catalog(Run(run))
    first, *others = catalog.ids_of("test").tolist()
    pairs = [
        (first, other)
        for other in others
        if catalog.category_names[other] != catalog.category_names[first]
    ][:3]
    lines = [f"{catalog.names[target]},{catalog.names[attack]}\n" for target, attack in pairs]
    csv = tmp_path / "pairs.csv"
    csv.write_text("target_name,attack_name\n" + "".join(lines))
    command = (
        "evaluate",
        place / "tiny.yaml",
        "--out",
        run,
        "--set",
        f"evaluation.tuples={csv}",
        "--set",
        "evaluation.attacks=[fgsm]",
    )
    assert advrec(*command, cwd=tmp_path).returncode == 0
    table = rows(run)
    assert list(zip(table.target_id, table.attack_id, strict=True))[::2] == pairs
    csv.write_text("target_name,attack_name\n" + "".join(reversed(lines)))
    refused = advrec(*command, cwd=tmp_path)
    assert refused.returncode == 2
    assert "holds tuples made with tuples = " in refused.stderr
    csv.unlink()
    assert "pairs.csv does not exist" in advrec(*command, cwd=tmp_path).stderr
    assert advrec("report", run, cwd=tmp_path).returncode == 0


def test_one_and_two_actors_give_equal_rows(place, tmp_path):
    """The same weights evaluated again, by one actor."""
    run = tmp_path / "one"
    shutil.copytree(place / "results" / "tiny", run)
    shutil.rmtree(run / "attacks")
    done = advrec(
        "evaluate", place / "tiny.yaml", "--out", run, "--set", "resources.actors=1", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    fast = rows(place / "results" / "tiny")
    fast = fast[fast.attack.isin(["fgsm", "pgd-2"])].reset_index(drop=True)
    assert rows(run).equals(fast)


def test_ctrl_c_leaves_a_run_that_goes_on(place, tmp_path):
    slow = [{"name": name, "attack": "pgd-300"} for name in ("slow", "slower", "slowest")]
    study = write(tmp_path / "tiny.yaml", evaluation=STUDY["evaluation"] | {"attacks": slow})
    run = tmp_path / "results" / "tiny"
    shutil.copytree(place / "results" / "tiny", run)
    process = subprocess.Popen(
        [*ADVREC, "evaluate", str(study)],
        cwd=tmp_path,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job, and so these tests in one, ignore SIGINT, and so would what they
        # start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while (
        not (run / "attacks" / "model=unsecured" / "attack=slow").exists()
        and time.monotonic() < deadline
    ):
        time.sleep(0.1)
    before = blocks(run)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in error
    assert "Traceback" not in error
    assert advrec("evaluate", study, cwd=tmp_path).returncode == 0
    after = blocks(run)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(blocks(place / "results" / "tiny")) + 9


def test_weights_that_cannot_be_had_are_found_before_training(place, tmp_path):
    """Not in a worker of Ray's: one sentence, whose place is the study's."""
    away = {
        **os.environ,
        "TORCH_HOME": str(tmp_path),
        "http_proxy": "http://127.0.0.1:1",
        "https_proxy": "http://127.0.0.1:1",
    }
    (tmp_path / "wrong.pth").write_text("no weights")
    for weights, code, part in (
        ("imagenet", 1, "models.other: the ImageNet weights of mobilenet_v2 cannot be loaded"),
        (tmp_path / "gone.pth", 2, "gone.pth does not exist"),
        (tmp_path / "wrong.pth", 2, "models.other: "),
    ):
        models = f"models.other={{defense: none, weights: {weights}}}"
        refused = advrec("train", "tiny.yaml", "--set", models, cwd=place, env=away)
        assert refused.returncode == code, refused.stderr
        assert part in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert not (place / "results" / "tiny" / "models" / "other" / "model.safetensors").exists()


def test_the_catalog_and_the_map_of_an_embedded_model_are_drawn(place):
    shown = advrec("catalog", "tiny.yaml", cwd=place)
    assert shown.returncode == 0, shown.stderr
    assert "132 with texture labels" in shown.stdout
    assert "textures: " in shown.stdout
    sheet, embedded = (Path(place, line) for line in shown.stdout.splitlines()[-2:])
    assert (sheet.name, embedded.name) == ("catalog.png", "map-unsecured.png")
    with Image.open(embedded) as picture:
        shown_pixels = np.asarray(picture)
    assert (shown_pixels < 250).any(axis=2).mean() > 0.02, "the map shows no article"


def test_recommend_and_attack_print_and_draw(place):
    lists = advrec("recommend", "tiny.yaml", "--model", "unsecured", "3", "-k", "4", cwd=place)
    assert lists.returncode == 0, lists.stderr
    assert len(lists.stdout.splitlines()) == 7
    assert Path(place, lists.stdout.splitlines()[-1]).stat().st_size > 1000
    name = lists.stdout.splitlines()[1].split()[1]
    by_name = advrec("recommend", "tiny.yaml", "--model", "unsecured", name, "-k", "4", cwd=place)
    # HNSW, built by several threads, may order equal ones anyhow
    assert by_name.stdout.splitlines()[:2] == lists.stdout.splitlines()[:2]
    right = {
        "--model": "unsecured",
        "--attack": "pgd-8",
        "--epsilon": "0.05",
        "--target": name,
        "--article": "5",
    }
    one = advrec(
        "attack", "tiny.yaml", *[part for pair in right.items() for part in pair], cwd=place
    )
    assert one.returncode == 0, one.stderr
    assert "rank" in one.stdout
    assert Path(place, one.stdout.splitlines()[-1]).stat().st_size > 1000
    for wrong in (
        ["--target", "9999"],
        ["--epsilon", "2"],
        ["--model", "nobody"],
        ["--attack", "pdg-8"],
    ):
        command = right | dict([wrong])
        refused = advrec(
            "attack", "tiny.yaml", *[part for pair in command.items() for part in pair], cwd=place
        )
        assert refused.returncode == 2, wrong
        assert refused.stderr.count("\n") == 1


def test_a_block_that_was_set_aside_is_tried_again_and_forgotten_once_done(place, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(place / "results" / "tiny", run)
    (run / "set_aside.json").write_text(
        '{"attacks/unsecured/pgd-2/1": "its process died (3 attempts)"}'
    )
    (run / "attacks/model=unsecured/attack=pgd-2/block-000001.parquet").unlink()
    status = advrec("status", run, cwd=tmp_path)
    assert status.returncode == 3
    assert "2 of 3 blocks done" in status.stdout
    assert "set aside attacks/unsecured/pgd-2/1: its process died (3 attempts)" in status.stdout
    before = blocks(run)
    assert advrec("study", place / "tiny.yaml", "--out", run, cwd=tmp_path).returncode == 0
    after = blocks(run)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1
    assert advrec("status", run, cwd=tmp_path).returncode == 0


def test_what_is_not_there_yet_is_said_in_one_sentence(tmp_path):
    study = write(tmp_path / "tiny.yaml")
    for command in ("train", "evaluate"):
        refused = advrec(command, study, cwd=tmp_path)
        assert refused.returncode == 1
        assert "run `advrec" in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert advrec("status", tmp_path, cwd=tmp_path).returncode == 2
    assert advrec("frobnicate", cwd=tmp_path).returncode == 2


@pytest.fixture(scope="module")
def shop(tmp_path_factory, prepared):
    """A shop's directory: JPEG photographs in a folder a category, its own model, and a study of
    both.
    """
    directory = tmp_path_factory.mktemp("shop")
    catalog = Catalog(prepared)
    for article, pixels in enumerate(catalog.pixels(range(len(catalog)))):
        path = directory / "photos" / catalog.category_names[article] / f"{article}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=95)
    shutil.copytree(Path(__file__).parents[1] / "shop", directory / "shop")
    torch.manual_seed(1)
    torch.save(torchvision.models.resnet18().state_dict(), directory / "resnet18.pt")
    write(
        directory / "study.yaml",
        name="shop",
        catalog={"source": "folder", "root": "photos", "image_size": 64},
        models={
            "own": {"model": "shop.resnet:resnet18"},
            "vision": {"model": "resnet18", "checkpoint": "resnet18.pt"},
        },
        evaluation=STUDY["evaluation"]
        | {
            "attacks": ["auto", {"name": "moved", "attack": "pgd-4", "from": "vision"}],
            "epsilons": [0.02, 0.05],
            "delivery": ["float", "png"],
            "checks": 6,
        },
    )
    return directory


def test_a_shops_own_model_is_evaluated_on_its_own_photographs_without_training(shop):
    assert advrec("prepare", "study.yaml", cwd=shop).returncode == 0
    done = advrec("evaluate", "study.yaml", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert "shop.resnet:resnet18 is taken as it is, 128 values" in done.stdout
    table = rows(shop / "results" / "shop")
    assert len(table) == 2 * 2 * 12 * 2
    assert (table.linf <= table.epsilon.astype("float32")).all()
    automatic = table[table.attack == "auto"]
    assert set(automatic.winner) <= {"apgd-50", "apgd-l2-100", "apgd-100"}
    larger, smaller = (
        automatic[automatic.epsilon == e].set_index(["model", "tuple_id"]).adversarial_rank
        for e in (0.05, 0.02)
    )
    assert (larger <= smaller).all()
    assert "adversarial_rank_png" in table
    reported = advrec("report", "study.yaml", cwd=shop)
    assert reported.returncode == 0, reported.stderr
    page = (shop / "results" / "shop" / "report" / "index.html").read_text()
    assert "gradients beat no gradients" in page


def test_a_run_does_not_mix_rows_of_a_model_that_has_changed(shop):
    """The weights' file and the source file of the function are part of what a model is."""
    source = shop / "shop" / "resnet.py"
    before = source.read_text()
    source.write_text(before.replace("width=16", "width=8"))
    refused = advrec("evaluate", "study.yaml", cwd=shop)
    source.write_text(before)
    assert refused.returncode == 2
    assert "models/own made with code_sha256" in refused.stderr
    assert (
        advrec("evaluate", "study.yaml", cwd=shop).stdout.strip().endswith("evaluate: done before")
    )
    changed = advrec("evaluate", "study.yaml", "--set", "evaluation.delivery=jpeg-90", cwd=shop)
    assert changed.returncode == 2
    assert "delivery" in changed.stderr


def test_a_model_of_ones_own_that_is_not_there_is_refused_before_any_work(shop, tmp_path):
    for models, part in (
        (
            "{a: {model: nowhere.at_all:model}}",
            "models.a: nowhere.at_all:model raised ModuleNotFoundError",
        ),
        ("{a: {model: resnet18, checkpoint: gone.pt}}", "gone.pt cannot be read"),
        (
            "{a: {model: resnet81, checkpoint: resnet18.pt}}",
            "is not a classifier of torchvision; did you mean",
        ),
        ("{a: {model: resnet18}}", "needs either a checkpoint"),
    ):
        changes = ("--set", f"models={models}", "--set", "evaluation.attacks=[auto]")
        refused = advrec("study", "study.yaml", *changes, "--out", tmp_path / "run", cwd=shop)
        assert refused.returncode == 2, refused.stderr
        assert part in refused.stderr
        assert refused.stderr.count("\n") == 1
        assert not (tmp_path / "run").exists()
