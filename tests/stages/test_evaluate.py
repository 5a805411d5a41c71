"""What an evaluation gives, and what can go wrong while it runs: a block that kills its process, a
model that cannot recommend, a kill, Ctrl-C, disks, two drivers, a cluster that is not there.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from advrec.catalog.dataset import Catalog
from advrec.model import checkpoint
from advrec.run import cells
from advrec.run.directory import Run
from advrec.run.tables import read_embeddings
from tests.commands import ADVREC, advrec, kill_when, started, wait_until
from tests.runs import blocks, rows, write_study

TINY = 0.001  # a budget that hardly changes an image's brightness
TWO_ACTORS = {"actors": 2, "training_workers": 0}


def copy(ready: Run, directory: Path) -> Path:
    return shutil.copytree(ready.directory, directory / "run")


def sent(run: Path) -> list[str]:
    """Blocks as the log says that they were sent to an actor, in order."""
    return [
        line.split()[2].rstrip(":")
        for line in (run / "advrec.log").read_text().splitlines()
        if ": sent, attempt" in line
    ]


@pytest.mark.long
def test_tuples_of_a_csv_are_what_it_holds(ready, tmp_path):
    run = copy(ready, tmp_path)
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
    evaluation = {"tuples": str(csv), "attacks": ["fgsm"]}
    study = write_study(tmp_path / "tiny.yaml", ready, evaluation=evaluation)
    command = ("evaluate", study, "--out", run)
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


@pytest.mark.long
def test_a_model_that_cannot_recommend_is_set_aside_alone(ready, tmp_path):
    run = copy(ready, tmp_path)
    network = checkpoint.load(Run(run).weights("unsecured"))
    with torch.no_grad():
        for parameter in network.backbone.parameters():
            parameter.zero_()
    checkpoint.save(Run(run).weights("dead"), network)
    trained = {"defense": "none", "epochs": 1}
    study = write_study(
        tmp_path / "two.yaml",
        ready,
        evaluation={"checks": 4},
        models={"dead": trained, "unsecured": trained},
    )
    ended = advrec("evaluate", study, "--out", run, cwd=tmp_path)
    assert ended.returncode == 3, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("advrec: exit code 3: work was set aside")
    reasons = json.loads((run / "set_aside.json").read_text())
    assert all("dead" in key for key in reasons), (
        "of the other model only what is made on the dead one"
    )
    assert "health/dead" in reasons
    assert all("zero or not finite" in reason for reason in reasons.values())
    assert set(rows(run).model) == {"unsecured"}


def test_embeddings_go_on_shard_by_shard_and_are_what_the_model_gives(ready, tmp_path):
    run = copy(ready, tmp_path)
    study = write_study(tmp_path / "one.yaml", ready, evaluation={"attacks": ["fgsm"]})
    assert advrec("evaluate", study, "--out", run, cwd=tmp_path).returncode == 0
    shards = sorted((run / "embeddings" / "model=unsecured").iterdir())
    assert [shard.name for shard in shards] == [
        "part-000000.parquet",
        "part-000001.parquet",
        "part-000002.parquet",
    ]
    whole = read_embeddings(Run(run), "unsecured", 1280)
    times = [shard.stat().st_mtime_ns for shard in shards]
    shards[1].unlink()
    shutil.rmtree(run / "attacks")
    assert advrec("evaluate", study, "--out", run, cwd=tmp_path).returncode == 0
    after = [shard.stat().st_mtime_ns for shard in shards]
    assert after[0] == times[0]
    assert after[1] > times[1]
    assert after[2] == times[2]
    assert (read_embeddings(Run(run), "unsecured", 1280) == whole).all()
    assert [line for line in sent(run) if line.startswith("embeddings/")][3:] == [
        "embeddings/unsecured/1"
    ]


def test_directories_are_looked_through_once_and_only_what_is_still_aside_stays(
    ready, tmp_path, monkeypatch
):
    """An image stays aside; a block that is done, or no part of the study, does not."""
    run = copy(ready, tmp_path)
    image = {"images/a.jpg": "is torn"}
    blocks_aside = {"attacks/unsecured/fgsm/0": "died", "attacks/gone/fgsm/0": "died"}
    Run(run).write_set_aside(image | blocks_aside)
    looked, missing_blocks = [], cells.missing_blocks

    def counted(*arguments):
        looked.append(arguments)
        return missing_blocks(*arguments)

    monkeypatch.setattr(cells, "missing_blocks", counted)
    study = write_study(tmp_path / "one.yaml", ready, evaluation={"attacks": ["fgsm", "pgd-2"]})
    for again in (False, True):
        looked.clear()
        ended = advrec("evaluate", study, "--out", run, cwd=tmp_path)
        assert ended.returncode == 3
        assert ("evaluate: done before" in ended.stdout) == again
        assert len(looked) == 2  # once a cell
        assert Run(run).set_aside() == image
    assert len(rows(run)) == 2 * 12 * 2


@pytest.mark.ray
def test_a_poisonous_block_is_set_aside_and_the_next_run_tries_only_it(
    ready, tmp_path, ray_address
):
    """Its actor dies three times, all others finish, and without the poison the rows are those of
    a run that never met it.
    """
    run = copy(ready, tmp_path)
    shutil.copytree(Path(__file__).parents[1] / "shop", tmp_path / "shop")
    evaluation = {"tuples": 6, "block": 1, "epsilons": [TINY], "attacks": ["pgd-2"], "examples": 0}
    study = write_study(
        tmp_path / "poison.yaml",
        ready,
        evaluation=evaluation,
        models={"own": {"model": "shop.poison:model"}},
        resources=TWO_ACTORS,
    )
    evaluate = ("evaluate", study, "--out", run)
    # Of the tuples to come the brightest image is the poisonous one.
    first = advrec(*evaluate, "--set", "resources.actors=0", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    tuples = pq.read_table(run / "tuples.parquet")["attack_id"].to_pylist()
    brightness = Catalog(Run(run)).pixels(tuples).mean((1, 2, 3)) / 255
    order = brightness.argsort()
    assert brightness[order[-1]] - brightness[order[-2]] > 3 * TINY, (
        "no image is the brightest by far"
    )
    poisonous = f"attacks/own/pgd-2/{order[-1]}"
    undisturbed = rows(run)
    shutil.rmtree(run / "attacks")
    (run / "advrec.log").unlink()
    limit = tmp_path / "shop" / "poison.txt"
    limit.write_text(str(brightness[order[-2:]].mean()))

    ended = advrec(*evaluate, "--address", ray_address, cwd=tmp_path)
    assert ended.returncode == 3, ended.stderr
    assert list(json.loads((run / "set_aside.json").read_text())) == [poisonous]
    assert "its process died" in ended.stdout
    assert sent(run).count(poisonous) == 3
    others = blocks(run)
    assert len(others) == 5

    limit.unlink()
    (run / "advrec.log").unlink()
    again = advrec(*evaluate, "--set", "resources.actors=0", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert sent(run) == [poisonous]
    assert {name: written for name, written in blocks(run).items() if name in others} == others
    assert json.loads((run / "set_aside.json").read_text()) == {}
    assert rows(run).equals(undisturbed)


@pytest.mark.ray
def test_an_evaluation_killed_with_9_goes_on_where_it_was(ready, tmp_path):
    """No row missing, none twice, finished blocks not computed again, and the rows are those of an
    undisturbed run.
    """
    attacks = ["fgsm", "pgd-2", {"name": "slow", "attack": "pgd-80"}]
    study = write_study(
        tmp_path / "tiny.yaml", ready, evaluation={"attacks": attacks}, resources=TWO_ACTORS
    )
    run = copy(ready, tmp_path)
    evaluate = ("evaluate", study, "--out", run)
    kill_when(lambda: len(blocks(run)) >= 6, *evaluate, cwd=tmp_path)
    assert "process" in (run / ".lock").read_text(), "the dead driver left its lock"
    finished = blocks(run)
    assert 6 <= len(finished) < 9, "the kill came too late to show anything"
    here = ("--set", "resources.actors=0")
    assert advrec(*evaluate, *here, cwd=tmp_path).returncode == 0
    after = blocks(run)
    assert {name: after[name] for name in finished} == finished
    assert len(after) == 9
    undisturbed = shutil.copytree(ready.directory, tmp_path / "undisturbed")
    assert advrec("evaluate", study, "--out", undisturbed, *here, cwd=tmp_path).returncode == 0
    table = rows(run)
    assert not table.duplicated(["model", "attack", "tuple_id", "epsilon"]).any()
    assert len(table) == 3 * 12 * 2
    assert table.equals(rows(undisturbed))


@pytest.mark.ray
def test_ctrl_c_leaves_a_run_that_goes_on(ready, tmp_path):
    study = write_study(
        tmp_path / "tiny.yaml",
        ready,
        evaluation={"tuples": 8, "block": 1, "attacks": ["pgd-150"]},
        resources=TWO_ACTORS,
    )
    run = copy(ready, tmp_path)
    evaluate = ("evaluate", study, "--out", run)
    process = started(*evaluate, cwd=tmp_path)
    wait_until(lambda: blocks(run), process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(60) == 130
    said = (tmp_path / "said").read_text()
    assert "interrupted" in said
    assert "Traceback" not in said
    before = blocks(run)
    assert 0 < len(before) < 8, "it came too late to show anything"
    assert advrec(*evaluate, "--set", "resources.actors=0", cwd=tmp_path).returncode == 0
    after = blocks(run)
    assert {name: after[name] for name in before} == before
    assert len(after) == 8


def test_a_second_driver_is_refused_and_status_names_the_first(ready, tmp_path):
    run = copy(ready, tmp_path)
    study = write_study(tmp_path / "one.yaml", ready, evaluation={"attacks": ["fgsm"]})
    evaluate = ("evaluate", study, "--out", run)
    with Run(run).lock():
        refused = advrec(*evaluate, cwd=tmp_path)
    assert refused.returncode == 1
    assert f"in use by another advrec (process {os.getpid()} on " in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert advrec(*evaluate, cwd=tmp_path).returncode == 0
    with Run(run).lock():
        status = advrec("status", run, cwd=tmp_path)
    assert f"process {os.getpid()} on " in status.stdout


def mounted(command: str) -> subprocess.CompletedProcess[str]:
    """A shell command in a mount namespace of its own."""
    return subprocess.run(
        ["unshare", "--mount", "sh", "-ec", command], capture_output=True, text=True, timeout=300
    )


may_mount = pytest.mark.skipif(
    sys.platform != "linux"
    or shutil.which("unshare") is None
    or mounted("mount -t tmpfs none /mnt").returncode != 0,
    reason="mounting a small disk needs root",
)


@pytest.mark.long
@may_mount
@pytest.mark.parametrize(
    ("then", "reason"),
    [
        ("size={small}k", "No space left on device"),
        pytest.param("ro", "Read-only file system", marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_is_full_or_read_only_is_said_in_one_sentence(ready, tmp_path, then, reason):
    """And what was finished is valid: the same command goes on from there on a larger disk."""
    run = copy(ready, tmp_path)
    evaluation = {"attacks": ["fgsm", "pgd-2", "pgd-3"], "examples": 12, "block": 1}
    study = write_study(tmp_path / "one.yaml", ready, evaluation=evaluation)
    only_fgsm = ("--out", run, "--set", "evaluation.attacks=[fgsm]")
    assert advrec("evaluate", study, *only_fgsm, cwd=tmp_path).returncode == 0
    before = rows(run)
    small = sum(path.stat().st_size for path in run.rglob("*") if path.is_file()) // 1024 + 700
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    evaluate = " ".join([*ADVREC, "evaluate", str(study), "--out", str(disk / "run")])
    ended = mounted(
        f"mount -t tmpfs -o size=100m none {disk}; cp -r {run} {disk}/run; "
        f"mount -o remount,{then.format(small=small)} {disk}; "
        f"code=0; {evaluate} || code=$?; cp -r {disk}/run {kept}; exit $code"
    )
    assert ended.returncode == 1, ended.stderr
    assert reason in ended.stderr
    assert "Traceback" not in ended.stderr
    after = rows(kept)
    assert after[after.attack == "fgsm"].reset_index(drop=True).equals(before)
    for path in kept.glob("attacks/*/*/*.parquet"):
        assert pq.read_table(path).num_rows == 2
    assert advrec("evaluate", study, "--out", kept, cwd=tmp_path).returncode == 0
    assert len(rows(kept)) == 3 * 12 * 2


@pytest.mark.ray
def test_an_address_where_no_cluster_answers_is_said_at_once(ready, tmp_path):
    run = copy(ready, tmp_path)
    study = write_study(
        tmp_path / "one.yaml", ready, evaluation={"attacks": ["fgsm"]}, resources=TWO_ACTORS
    )
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        refused = advrec("evaluate", study, "--out", run, "--address", address, cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(
        f"advrec: Ray at {address} cannot be reached ("
    )
