"""A plan says of a run directory what is there, what is missing and what is refused."""

import pytest
import yaml

from advrec.errors import ConfigError
from advrec.run import cells, identity
from advrec.run.files import write_json, write_text
from advrec.spec import study as study_file
from advrec.spec.attacks import AttackSpec
from advrec.stages import plan, status
from tests.reports.conftest import Maker


@pytest.fixture
def finished(tmp_path):
    """A run of two attacks on three models, and its study."""
    run = Maker(tmp_path)()
    study = study_file.read(run.study)
    for model in study.models:
        run.weights(model).touch()
    return run, study


def test_a_finished_run_misses_nothing(finished):
    found = plan.make(*finished)
    assert found.catalog
    assert found.drawn
    assert found.tuples == 20
    assert found.untrained == ()
    assert found.missing == set()
    assert found.is_finished
    assert "3 of 3 blocks done" in status.overview(*finished, found)


def test_what_is_missing_is_named_and_what_was_set_aside_is_not_waited_for(finished):
    run, study = finished
    run.block("at", "fgsm", 1).unlink()
    run.weights("cat").unlink()
    found = plan.make(run, study)
    assert found.missing == {"attacks/at/fgsm/1"}
    assert found.untrained == ("cat",)
    assert not found.is_finished
    assert "evaluate  at fgsm: 2 of 3 blocks done" in status.overview(run, study, found)
    run.write_set_aside({"attacks/at/fgsm/1": "died", "attacks/at/pgd-8/0": "died"})
    found = plan.make(run, study)
    assert found.is_finished
    assert list(found.unfinished.values()) == [(1,)]


def test_models_are_unexamined_only_where_the_study_checks(finished):
    run, study = finished
    checked = study.model_copy(
        update={"evaluation": study.evaluation.model_copy(update={"checks": 4})}
    )
    write_json(run.health("at"), {})
    assert plan.make(run, study).unexamined == ()
    assert plan.make(run, checked).unexamined == ("unsecured", "cat")


def changed(study, **evaluation):
    return study.model_copy(update={"evaluation": study.evaluation.model_copy(update=evaluation)})


def test_a_study_that_differs_is_refused_and_one_that_is_longer_is_not(finished):
    run, study = finished
    parts = identity.identities(study)
    run.claim("catalog", parts.catalog, made=False)
    for model, part in parts.models.items():
        run.claim(f"models/{model}", part, made=False)
    for cell in plan.every_cell(study):
        run.claim(cell.key, identity.cell(study, cell), made=False)
    plan.refuse(run, study, parts)
    longer = study_file.parse(
        study_file.as_dict(study)
        | {"evaluation": study_file.as_dict(study)["evaluation"] | {"attacks": ["fgsm", "cw-2"]}},
        "longer",
    )
    plan.refuse(run, longer, parts)
    other = changed(study, batch=7)
    with pytest.raises(
        ConfigError, match="attacks/unsecured/fgsm made with batch = 96, the study says 7"
    ):
        plan.refuse(run, other, identity.identities(other))
    reseeded = study.model_copy(update={"seed": 8})
    with pytest.raises(ConfigError, match="seed = 7, the study says 8"):
        plan.refuse(run, reseeded, identity.identities(reseeded))


def test_tuples_of_a_csv_are_counted_before_they_are_drawn(finished, tmp_path):
    run, study = finished
    run.tuples.unlink()
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("target_name,attack_name\na,b\nc,d\n")
    assert plan.make(run, changed(study, tuples=str(pairs))).tuples == 2
    gone = plan.make(run, changed(study, tuples=str(tmp_path / "gone.csv")))
    assert gone.tuples is None
    assert "evaluate  at fgsm: to do" in status.overview(run, study, gone)
    assert not gone.is_finished


def test_a_half_done_cell_is_refused_where_nothing_here_makes_its_rows(finished):
    run, study = finished
    parts = identity.identities(study)

    def recorded(protocol):
        for cell in plan.every_cell(study):
            older = {**identity.cell(study, cell), "protocol": protocol}
            run.claim(cell.key, older, made=False)

    recorded(3)
    plan.refuse(run, study, parts)  # all are finished
    run.block("at", "fgsm", 1).unlink()
    recorded(4)
    plan.refuse(run, study, parts)
    recorded(3)
    with pytest.raises(ConfigError, match=r"attacks/at/fgsm half done by another .* name another"):
        plan.refuse(run, study, parts)
    plan.refuse(run, study, parts, evaluates=False)  # a report makes no rows


def test_what_an_older_version_called_auto_is_read_as_auto_1_and_goes_on_only_as_that(finished):
    run, study = finished
    auto, first = AttackSpec.named("auto"), AttackSpec.named("auto-1")
    by_name = first.model_copy(update={"name": "auto"})
    asked = {each: changed(study, attacks=(each,)) for each in (auto, by_name)}
    recorded = run.identities()
    for cell in cells.cells(asked[auto]):
        block = run.block(cell.model, "auto", 0)
        block.parent.mkdir(parents=True)
        block.touch()
        recorded[cell.key] = {**identity.cell(asked[auto], cell), "protocol": 4}
        run.claim(cell.key, recorded[cell.key], made=False)
    write_text(run.study, yaml.safe_dump(study_file.as_dict(asked[auto]), sort_keys=False))

    # Read from the run directory: a report of it goes on.
    read = identity.recorded_study(run)
    assert [(one.name, one.attack) for one in read.evaluation.attacks] == [("auto", "auto-1")]
    plan.refuse(run, asked[by_name], identity.identities(study), evaluates=False)

    remedy = r"first edition of auto; .* write \{name: auto, attack: auto-1\}"
    with pytest.raises(ConfigError, match=remedy):
        plan.refuse(run, asked[auto], identity.identities(study), evaluates=False)

    begun = [run.block(cell.model, "auto", 0) for cell in cells.cells(asked[auto])]
    for block in begun:
        block.unlink()
    assert identity.recorded_study(run) == asked[auto]  # a claim without rows binds nobody
    for block in begun:
        block.touch()

    for key, made in recorded.items():
        run.claim(key, made | {"protocol": 5}, made=False)
    assert identity.recorded_study(run) == asked[auto]  # which this version made
    plan.refuse(run, asked[auto], identity.identities(study), evaluates=False)


def test_an_imported_run_knows_neither_batch_nor_attack(finished):
    run, study = finished
    for cell in cells.cells(study):
        run.claim(cell.key, {"imported": True}, made=False)
        reason = run.difference(cell.key, {"imported": True}, {"attack": "x"})
        assert "attack = nothing, the study says" in reason
    assert identity.continued(run, study).evaluation.at_once == study.evaluation.at_once


def test_embeddings_of_an_older_protocol_stay_where_all_are_there(finished):
    run, study = finished
    about = {"weights": "w", "catalog": "c", "articles": 9, "device": "cpu"}
    now = identity.embeddings(study, **about)
    older = {key: value for key, value in now.items() if key != "protocol"}
    run.claim("embeddings/at", older, made=False)
    run.check_identity("embeddings/at", identity.as_finished(older, now))
    with pytest.raises(ConfigError, match="embeddings/at half done by another version"):
        run.check_identity("embeddings/at", now)


def test_a_begun_run_keeps_its_batch_where_the_study_says_none(finished):
    run, study = finished
    silent = study.model_copy(update={"evaluation": study.evaluation.with_batch(96)})
    for cell in plan.every_cell(study):
        run.claim(cell.key, {**identity.cell(study, cell), "batch": 11}, made=False)
    assert identity.continued(run, silent).evaluation.at_once == 11
    said = changed(silent, batch=12)
    assert identity.continued(run, said).evaluation.at_once == 12  # which is then refused
    with pytest.raises(ConfigError, match="batch = 11, the study says 12"):
        plan.refuse(run, said, identity.identities(said))
