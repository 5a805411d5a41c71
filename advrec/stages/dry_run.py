"""A dry run: what a study would check and do, and how long its evaluation would take."""

from advrec.distributed.placement import cluster_address, this_machine
from advrec.run import identity
from advrec.run.directory import Run
from advrec.spec.study import Study
from advrec.stages import photographs, plan, prepare, status
from advrec.stages.study import STAGES


def dry_run(
    run: Run, study: Study, *, stages: tuple[str, ...] = STAGES, address: str | None = None
) -> str:
    """Say in lines of text what `run_study` would do. Nothing is written.

    Raises:
        ConfigError: as `run_study`.
        AdvrecError: as `run_study`.
    """
    run.check_directory()
    study = identity.continued(run, study)
    plan.check_address(study, address)
    plan.refuse(run, study, plan.check(run, study))
    if "train" in stages or "evaluate" in stages:
        plan.check_room(study, address)
    todo = plan.make(run, study)
    lines = [status.overview(run, study, todo, prepare.preview(run, study))]
    if "train" in stages:
        lines += [
            f"train     {line}"
            for model in todo.untrained
            for line in photographs.remarks(run, study, model)
        ]
    if "evaluate" in stages:
        from advrec.stages import forecast

        grows = study.resources.actors != 0 and cluster_address(address) is not None
        nodes = _nodes(address) if grows else this_machine()
        lines += forecast.forecast(run, study, todo, nodes, grows=grows).lines()
    return "\n".join(lines)


def _nodes(address: str | None) -> list[dict[str, float]]:
    from advrec.distributed.session import nodes, session

    with session(address):
        return nodes()
