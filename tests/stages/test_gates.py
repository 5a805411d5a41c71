"""Gates end commands with exit code 4, are no part of what a run is, and say what they judged."""

import contextlib
import itertools
import json
import shutil

import pytest
import yaml

from advrec.errors import ConfigError
from advrec.reports import report, results
from advrec.run import cells
from advrec.run.directory import Run
from advrec.spec import study as study_file
from tests.commands import advrec
from tests.conftest import STUDY
from tests.runs import blocks

FAILS = {"model": "unsecured", "attack": "pgd-2", "epsilon": 0.05, "rank": 100, "above": 1}
PASSES = FAILS | {"above": 99.9}
TINY = "results/tiny"


@pytest.fixture
def tried(evaluated, tmp_path, monkeypatch):
    """A function that writes gates into a finished study's file and runs one command on it.

    Reports are not drawn.
    """
    monkeypatch.setattr(report, "write_report", lambda read, partial, compared: read.run.report)
    shutil.copytree(evaluated, tmp_path, dirs_exist_ok=True)
    study = yaml.safe_load((tmp_path / "tiny.yaml").read_text())

    def run(gates, command, *arguments):
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(study | {"fail_if": gates}))
        return advrec(command, *arguments, cwd=tmp_path)

    return run


def test_a_gate_ends_evaluate_and_report_with_4_and_changes_nothing(tried, tmp_path):
    before, identities = blocks(tmp_path / TINY), (tmp_path / TINY / "identities.json").read_text()
    for command in ("evaluate", "report", "study"):
        ended = tried([FAILS, PASSES], command, "tiny.yaml")
        assert ended.returncode == 4, ended.stderr
        (line,) = ended.stderr.splitlines()
        cell = "pgd-2 on unsecured at epsilon 0.05, rank 100"
        assert line.startswith(f"advrec: gate failed: {cell}: success ")
        assert line.endswith("its lower bound is above 1 %")
        assert f"gate passed: {cell}: success " in ended.stdout
    assert tried([PASSES], "study", "tiny.yaml").returncode == 0
    assert blocks(tmp_path / TINY) == before
    assert (tmp_path / TINY / "identities.json").read_text() == identities


def test_a_report_of_a_directory_judges_the_gates_that_were_recorded(tried):
    assert tried([FAILS], "report", "tiny.yaml").returncode == 4
    assert tried([], "report", TINY).returncode == 4  # the file says otherwise now
    assert tried([], "report", "tiny.yaml").returncode == 0
    assert tried([FAILS], "report", TINY).returncode == 0
    assert tried([FAILS], "status", TINY).returncode == 0


def test_4_wins_over_3(tried, tmp_path):
    run = Run(tmp_path / TINY)
    run.block("unsecured", "pgd-2", 2).unlink()
    run.write_set_aside({"attacks/unsecured/pgd-2/2": "killed three times"})
    assert tried([PASSES], "report", "tiny.yaml").returncode == 3
    ended = tried([FAILS], "report", "tiny.yaml")
    assert ended.returncode == 4
    assert "n = 8 tuples, 4 set aside)" in ended.stderr


def test_a_gate_of_which_all_is_set_aside_fails(tried, tmp_path):
    run = Run(tmp_path / TINY)
    for block in range(3):
        run.block("unsecured", "pgd-2", block).unlink()
    keys = [f"attacks/unsecured/pgd-2/{block}" for block in range(3)]
    run.write_set_aside(dict.fromkeys(keys, "killed three times"))
    ended = tried([PASSES], "report", "tiny.yaml")
    assert ended.returncode == 4
    assert "nothing was measured" in ended.stderr


def test_a_report_reads_its_run_once(tried, tmp_path, monkeypatch):
    count, read = [], results.read
    monkeypatch.setattr(results, "read", lambda run: count.append(run) or read(run))
    for what in ("tiny.yaml", TINY):
        del count[:]
        ended = tried([FAILS], "report", what, "--junit", "gates.xml")
        assert (ended.returncode, len(count)) == (4, 1), ended.stderr
        assert '<failure message="gate failed' in (tmp_path / "gates.xml").read_text()
        (tmp_path / "gates.xml").unlink()


def test_a_junit_file_that_is_a_directory_is_refused_before_a_report(tried, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "write_report", lambda *_, **__: pytest.fail("a report is made"))
    for what in ("tiny.yaml", TINY):
        ended = tried([PASSES], "report", what, "--junit", tmp_path)
        assert ended.returncode == 2
        assert f"--junit {tmp_path} is a directory" in ended.stderr


def test_a_gate_on_missing_rows_is_not_judged(tried, tmp_path):
    Run(tmp_path / TINY).block("unsecured", "pgd-2", 1).unlink()
    ended = tried([FAILS], "report", "tiny.yaml", "--partial", "--junit", "gates.xml")
    assert ended.returncode == 0
    assert "gate not judged: " in ended.stdout
    assert "1 of 3 blocks are missing; `advrec evaluate` makes them" in ended.stdout
    assert '<skipped message="gate not judged' in (tmp_path / "gates.xml").read_text()
    assert tried([FAILS], "evaluate", "tiny.yaml").returncode == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "unsecure"}, ["fail_if.1.model is unsecure", "did you mean unsecured?"]),
        ({"attack": "pgd-8"}, ["fail_if.1.attack is pgd-8", "(fgsm, pgd-2)", "mean pgd-2?"]),
        ({"attack": "shop.attacks:mine"}, ["fail_if.1.attack", "is called shop-attacks-mine"]),
        ({"epsilon": 0.04}, ["fail_if.1.epsilon is 0.04", "(0.01, 0.05); did you mean 0.05?"]),
        ({"epsilon": "12/255"}, ["fail_if.1.epsilon is 12/255, which", "did you mean 0.05?"]),
        ({"rank": 5}, ["fail_if.1.rank is 5", "(1, 3, 10, 100); did you mean 3?"]),
        ({"delivery": "png"}, ["fail_if.1.delivery is png", "evaluation.delivery of the study"]),
        ({"above": 100}, ["fail_if.1.above is 100", "less than 100"]),
        ({"abov": 1}, ["fail_if.1.abov is not a known key; did you mean above?"]),
    ],
)
def test_a_gate_that_names_what_the_study_has_not_is_refused(tried, tmp_path, change, words):
    ended = tried([FAILS, FAILS | change], "study", "tiny.yaml", "--out", "new")
    assert ended.returncode == 2
    for word in words:
        assert word in ended.stderr, ended.stderr
    assert not (tmp_path / "new").exists()


def test_budgets_of_gates_may_be_written_in_levels(tried, tmp_path):
    """The same number, as the study or its gate wrote it; and the run records it so."""
    gate = PASSES | {"epsilon": "12.75/255"}
    ended = tried([gate | {"epsilon": 0.05}, gate], "report", "tiny.yaml")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("gate passed: pgd-2 on unsecured at epsilon 0.05, rank 100") == 2
    (plain, levels) = yaml.safe_load((tmp_path / TINY / "study.yaml").read_text())["fail_if"]
    assert (plain["epsilon"], levels["epsilon"]) == (0.05, "12.75/255")


def test_models_that_are_left_out_have_no_gates(tried):
    left_out = json.dumps({"defense": "none", "compared": False})
    gate = FAILS | {"model": "start"}
    ended = tried([gate], "evaluate", "tiny.yaml", "--set", f"models.start={left_out}")
    assert ended.returncode == 2
    assert "fail_if.0.model is start, which is not among models" in ended.stderr


TARGETS = {"targets": "best.csv"}
ALL = {
    "models": {
        "unsecured": {"defense": "none"},
        "hybrid": {"recommender": "vbpr", "encoder": "unsecured"},
        "left": {"recommender": "bpr", "encoder": "unsecured", "compared": False},
    },
    "interactions": {"source": "synthetic", "users": 40},
}
ATTACKS = [
    "pgd-2",
    {"name": "s", "attack": "pgd-2", "loss": "score"},
    {"name": "down", "attack": "pgd-2", "goal": "demote"},
    {"name": "carried", "attack": "pgd-2", "from": "hybrid"},
]


@pytest.mark.parametrize(
    ("gate", "audience", "said"),
    [
        ({"attack": "s"}, ["neighbours", "users"], "attack is s, which is not made on unsecured"),
        ({"audience": "users"}, None, "which is not measured before users on unsecured; leave"),
        (
            {"attack": "s", "audience": "neighbours"},
            ["neighbours", "targets"],
            "attack is s, which is not measured before neighbours on unsecured; name one of pgd-2",
        ),
        ({"attack": "carried"}, None, "attack is carried, which is not made on unsecured"),
        ({"model": "hybrid", "attack": "down"}, None, "down, which pushes articles down"),
        ({"model": "hybrid"}, ["neighbours"], "pgd-2, which is not made on hybrid; leave this"),
        ({"model": "left"}, None, "model is left, which is not among models"),
        ({"model": "hybrid", "rank": 5}, None, "rank is 5"),
        ({"audience": "buyers"}, None, "audience"),
    ],
)
def test_a_gate_on_what_is_never_attacked_is_refused(tmp_path, gate, audience, said):
    (tmp_path / "best.csv").write_text("target_name\na\n")
    attacks = ATTACKS[:1] if audience == ["neighbours"] else ATTACKS
    evaluation = STUDY["evaluation"] | {"attacks": attacks}
    if audience:
        evaluation["audience"] = [TARGETS if each == "targets" else each for each in audience]
    with pytest.raises(ConfigError, match=said):
        study_file.resolve(
            STUDY | ALL | {"evaluation": evaluation, "fail_if": [FAILS | gate]}, "test", tmp_path
        )


def test_gates_know_the_attacks_that_have_cells(tmp_path):
    """Whatever has a cell may have a gate, and nothing else but what pushes down."""
    (tmp_path / "best.csv").write_text("target_name\na\n")
    audience = ["neighbours", TARGETS, "users"]
    evaluation = STUDY["evaluation"] | {"attacks": ATTACKS, "audience": audience}
    content = STUDY | ALL | {"evaluation": evaluation}
    made = study_file.resolve(content, "test", tmp_path)
    known = {(each.model, each.attack.name, each.audience) for each in cells.cells(made)}
    allowed = set()
    for model, attack, before in itertools.product(
        ("unsecured", "hybrid"),
        ("pgd-2", "s", "down", "carried"),
        ("neighbours", "targets", "users"),
    ):
        gate = FAILS | {"model": model, "attack": attack, "audience": before}
        with contextlib.suppress(ConfigError):
            study_file.resolve(content | {"fail_if": [gate]}, "test", tmp_path)
            allowed.add((model, attack, before))
    assert allowed == {each for each in known if each[1] != "down"}
