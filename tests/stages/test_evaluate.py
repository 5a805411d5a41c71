"""What can go wrong while an evaluation runs: a block that kills its process, a model that cannot
recommend, disks, two drivers.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from advrec.catalog.dataset import Catalog
from advrec.model import checkpoint
from advrec.run.directory import Run
from advrec.run.tables import read_embeddings
from tests.commands import ADVREC, kill_when
from tests.commands import advrec_process as advrec
from tests.runs import blocks, ready_run, rows, write_study

pytestmark = pytest.mark.ray
TINY = 0.001  # a budget that hardly changes an image's brightness


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    return ready_run(tmp_path_factory.mktemp("ready") / "run")


def copy(ready: Run, directory: Path) -> Path:
    shutil.copytree(ready.directory, directory / "run")
    return directory / "run"


def sent(run: Path) -> list[str]:
    """Blocks as the log says that they were sent to an actor, in order."""
    return [
        line.split()[2].rstrip(":")
        for line in (run / "advrec.log").read_text().splitlines()
        if ": sent, attempt" in line
    ]


def test_a_poisonous_block_is_set_aside_while_all_others_finish_and_the_next_run_tries_only_it(
    ready, tmp_path
):
    run = copy(ready, tmp_path)
    shutil.copytree(Path(__file__).parents[1] / "shop", tmp_path / "shop")
    evaluation = {"tuples": 6, "block": 1, "epsilons": [TINY], "attacks": ["pgd-2"], "examples": 0}
    study = write_study(
        tmp_path / "poison.yaml",
        ready,
        evaluation=evaluation,
        models={"own": {"model": "shop.poison:model"}},
    )
    limit = tmp_path / "limit"
    environment = os.environ | {"POISON": str(limit)}
    assert (
        advrec(
            "evaluate", study, "--out", run, "--dry-run", cwd=tmp_path, env=environment
        ).returncode
        == 0
    )
    # Of the tuples to come the brightest image is the poisonous one.
    first = advrec("evaluate", study, "--out", tmp_path / "run", cwd=tmp_path, env=environment)
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
    limit.write_text(str(brightness[order[-2:]].mean()))

    ended = advrec("evaluate", study, "--out", run, cwd=tmp_path, env=environment)
    assert ended.returncode == 3, ended.stderr
    assert list(json.loads((run / "set_aside.json").read_text())) == [poisonous]
    assert "its process died" in ended.stdout
    assert sent(run).count(poisonous) == 3
    others = blocks(run)
    assert len(others) == 5

    limit.unlink()
    (run / "advrec.log").unlink()
    again = advrec("evaluate", study, "--out", run, cwd=tmp_path, env=environment)
    assert again.returncode == 0, again.stderr
    assert sent(run) == [poisonous]
    assert {name: written for name, written in blocks(run).items() if name in others} == others
    assert json.loads((run / "set_aside.json").read_text()) == {}
    assert rows(run).equals(undisturbed)


def test_a_model_that_cannot_recommend_is_set_aside_and_the_others_are_evaluated(ready, tmp_path):
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


def test_a_second_driver_is_refused_and_a_dead_one_blocks_nobody(ready, tmp_path):
    run = copy(ready, tmp_path)
    study = write_study(
        tmp_path / "one.yaml", ready, evaluation={"attacks": ["pgd-400"], "block": 1}
    )
    kill_when(lambda: len(blocks(run)) >= 1, "evaluate", study, "--out", run, cwd=tmp_path)
    assert "process" in (run / ".lock").read_text()  # what the dead driver left
    with Run(run).lock():
        refused = advrec("evaluate", study, "--out", run, cwd=tmp_path)
        status = advrec("status", run, cwd=tmp_path)
    assert refused.returncode == 1
    assert f"in use by another advrec (process {os.getpid()} on " in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert f"process {os.getpid()} on " in status.stdout
    assert (
        advrec(
            "evaluate", study, "--out", run, "--set", "evaluation.attacks=[fgsm]", cwd=tmp_path
        ).returncode
        == 0
    )


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


@may_mount
@pytest.mark.parametrize(
    ("then", "reason"), [("size=SMALL", "No space left on device"), ("ro", "Read-only file system")]
)
def test_a_disk_that_is_full_or_read_only_is_said_in_one_sentence_and_what_was_finished_is_valid(
    ready, tmp_path, then, reason
):
    run = copy(ready, tmp_path)
    evaluation = {"attacks": ["fgsm", "pgd-2", "pgd-3"], "examples": 12, "block": 1}
    study = write_study(tmp_path / "one.yaml", ready, evaluation=evaluation)
    assert (
        advrec(
            "evaluate", study, "--out", run, "--set", "evaluation.attacks=[fgsm]", cwd=tmp_path
        ).returncode
        == 0
    )
    before = rows(run)
    small = sum(path.stat().st_size for path in run.rglob("*") if path.is_file()) // 1024 + 700
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    evaluate = " ".join([*ADVREC, "evaluate", str(study), "--out", str(disk / "run")])
    ended = mounted(
        f"mount -t tmpfs -o size=100m none {disk}; cp -r {run} {disk}/run; mount -o remount,{then.replace('SMALL', f'{small}k')} {disk}; "
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


def test_a_finished_run_is_pushed_whole_and_an_unfinished_one_is_not(ready, tmp_path):
    run = copy(ready, tmp_path)
    study = write_study(tmp_path / "one.yaml", ready, evaluation={"attacks": ["fgsm"]})
    assert advrec("evaluate", study, "--out", run, cwd=tmp_path).returncode == 0
    away = tmp_path / "away"
    pushed = advrec("push", run, away.as_uri(), cwd=tmp_path)
    assert pushed.returncode == 0, pushed.stderr
    copied = {
        path.relative_to(away): path.read_bytes() for path in away.rglob("*") if path.is_file()
    }
    own = {
        path.relative_to(run): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    assert copied == own
    assert advrec("status", away, cwd=tmp_path).returncode == 0
    # again, to the same place
    assert advrec("push", run, away.as_uri(), cwd=tmp_path).returncode == 0
    (away / "other.txt").write_text("not of the run")
    alien = advrec("push", run, away.as_uri(), cwd=tmp_path)
    assert alien.returncode == 2
    assert "other.txt" in alien.stderr
    for nowhere in ("", str(run), str(run / "copy")):
        assert advrec("push", run, nowhere, cwd=tmp_path).returncode == 2
    assert not (run / "copy").exists()
    (run / "report").mkdir()
    (run / "report" / "index.html").write_text("an old page")
    assert "report    done" in advrec("status", run, cwd=tmp_path).stdout
    os.utime(run / "report" / "index.html", (0, 0))
    assert "report    to do again" in advrec("status", run, cwd=tmp_path).stdout
    stale = advrec("push", run, (tmp_path / "elsewhere").as_uri(), cwd=tmp_path)
    assert stale.returncode == 1
    assert "was made before the last results" in stale.stderr
    next((run / "attacks").rglob("*.parquet")).unlink()
    unfinished = advrec("push", run, (tmp_path / "elsewhere").as_uri(), cwd=tmp_path)
    assert unfinished.returncode == 1
    assert "is not finished" in unfinished.stderr
    assert not (tmp_path / "elsewhere").exists()
    assert advrec("push", run, "nowhere://x", cwd=tmp_path).returncode in (1, 2)


def test_a_dry_run_says_blocks_time_and_memory_and_warns_of_long_blocks(ready, tmp_path):
    run = copy(ready, tmp_path)
    attacks = ["fgsm", {"name": "long", "attack": "cw-1000000", "stop": "rank-1"}]
    study = write_study(tmp_path / "one.yaml", ready, evaluation={"attacks": attacks})
    before = sorted(run.rglob("*"))
    shown = advrec("evaluate", study, "--out", run, "--dry-run", cwd=tmp_path).stdout
    assert "image-steps/s a process" in shown
    assert "unsecured fgsm: 3 blocks of 4 tuples at 2 budgets, about 0 s a block\n" in shown
    warned = next(line for line in shown.splitlines() if "unsecured long: 3 blocks" in line)
    assert "up to about" in warned
    assert "WARNING: longer than 10 min 00 s" in warned
    assert "MiB a process" in shown
    assert "in 2 processes of 1 core each, on this machine" in shown
    assert "checks" not in shown
    checked = advrec(
        "evaluate", study, "--out", run, "--dry-run", "--set", "evaluation.checks=4", cwd=tmp_path
    ).stdout
    assert "unsecured checks: up to about" in checked
    assert sorted(run.rglob("*")) == before
    for key in ("actors", "training_workers"):
        refused = advrec(
            "evaluate",
            study,
            "--out",
            run,
            "--dry-run",
            "--set",
            f"resources.{key}=5000",
            cwd=tmp_path,
        )
        assert refused.returncode == 1
        assert f"resources.{key} asks for 5000 processes" in refused.stderr


def test_an_address_where_no_cluster_answers_is_said_at_once(ready, tmp_path):
    run = copy(ready, tmp_path)
    study = write_study(tmp_path / "one.yaml", ready, evaluation={"attacks": ["fgsm"]})
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        refused = advrec("evaluate", study, "--out", run, "--address", address, cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(
        f"advrec: Ray at {address} cannot be reached ("
    )
