"""The command line: one small function a command.

`main` is called by the script `advrec`, by the jobs and by tests.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

import advrec
from advrec import arguments
from advrec.errors import SET_ASIDE, AdvrecError, ConfigError, StudyError, first_line
from advrec.run import identity
from advrec.run.directory import Run, open_run
from advrec.spec import study as study_file
from advrec.stages import gates, plan, report, status, study

INTERRUPTED = 130
DEMO_TAKES = "about 6 minutes on two cores"


def main(line: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (docs/reference/exit-codes.md)."""
    parsed = arguments.parser().parse_args(line)
    # SIGTERM, as a job manager or `kill` sends it, ends a run as orderly as Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = COMMANDS[parsed.command](parsed)
        if code == SET_ASIDE:
            _complain("exit code 3: work was set aside; `advrec status DIR` says which and why")
        return code
    except AdvrecError as error:
        where = f"{parsed.study}: " if isinstance(error, StudyError) and "study" in parsed else ""
        _complain(f"{where}{error}")
        return error.exit_code
    except KeyboardInterrupt:
        print(file=sys.stderr)
        _complain("interrupted; what is finished is kept, the same command goes on from there")
        return INTERRUPTED
    except pa.ArrowInvalid as error:
        _complain(
            f"a table of the run cannot be read ({first_line(error)}); "
            "restore it, or name another --out"
        )
        return 1
    except BrokenPipeError:
        return 1
    except OSError as error:
        where = error.filename or "a file"
        _complain(f"{where}: {error.strerror or error}; what is finished is kept")
        return 1


def _complain(sentence: str) -> None:
    print(f"advrec: {sentence}", file=sys.stderr)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _load(parsed: argparse.Namespace) -> tuple[study_file.Study, Path]:
    loaded = study_file.load(parsed.study, parsed.set)
    return loaded, _lasting(parsed.out or Path("results") / loaded.name)


def _lasting(out: Path) -> Path:
    """Refuse results in the copy of a working directory that Ray makes for a job, then deletes."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    if job.get("runtime_env", {}).get("working_dir") and out.resolve().is_relative_to(Path.cwd()):
        raise ConfigError(
            f"--out is {out}, which lies in Ray's copy of the job's working directory and would "
            "vanish with it; name an absolute --out on a disk that stays"
        )
    return out


def _stages(parsed: argparse.Namespace) -> int:
    loaded, out = _load(parsed)
    stages = study.STAGES if parsed.command == "study" else (parsed.command,)
    if parsed.dry_run:
        from advrec.stages.dry_run import dry_run

        print(dry_run(Run(out), loaded, stages=stages, address=parsed.address))
        return 0
    return study.run_study(loaded, out, stages=stages, address=parsed.address)


def _demo(parsed: argparse.Namespace) -> int:
    loaded = study_file.load(Path(advrec.__file__).with_name("demo.yaml"))
    out = _lasting(parsed.out or Path("results") / loaded.name)
    if not Run(out).catalog.exists():
        print(f"demo: {DEMO_TAKES}, as measured; Ctrl-C stops it, the same command goes on")
    return study.run_study(loaded, out)


def _report(parsed: argparse.Namespace) -> int:
    other = parsed.against and _open_run(parsed.against)[0]
    keys: dict[str, Any] = {"partial": parsed.partial, "other": other, "junit": parsed.junit}
    if parsed.study.is_dir():
        run, loaded = _open_run(parsed.study)
        read = report.run_stage(run, **keys)
        return gates.end(run, loaded, study.exit_code(run, loaded), read)
    if parsed.study.exists():
        loaded, out = _load(parsed)
        _open_run(out)  # which a report does not begin
        return study.run_study(loaded, out, stages=("report",), **keys)
    raise ConfigError(
        f"{parsed.study}: is not there; name a run directory, or the file of a study that was run"
    )


def _import_published(parsed: argparse.Namespace) -> int:
    from advrec.tools.import_published import run_import

    print("\n".join(run_import(parsed.directory, parsed.out)))
    return 0


def _tune(parsed: argparse.Namespace) -> int:
    from advrec.stages import search

    return search.run(parsed.search, parsed.out and _lasting(parsed.out), address=parsed.address)


def _status(parsed: argparse.Namespace) -> int:
    run, loaded = _open_run(parsed.directory)
    print(status.overview(run, loaded, plan.make(run, loaded)))
    return study.exit_code(run, loaded)


def _push(parsed: argparse.Namespace) -> int:
    from advrec.tools.push import push

    run, loaded = _open_run(parsed.directory)
    with run.lock():
        if not plan.make(run, loaded).is_finished:
            raise AdvrecError(
                f"{run.directory} is not finished: run its study again; "
                f"`advrec status {run.directory}` says what is left"
            )
        if status.is_stale(run):
            raise AdvrecError(
                f"{run.report} was made before the last results: "
                f"`advrec report {run.directory}` makes it again, then push"
            )
        print(f"{push(run, parsed.url)} files are at {parsed.url}")
    return study.exit_code(run, loaded)


def _open_run(directory: Path) -> tuple[Run, study_file.Study]:
    return (run := open_run(directory)), identity.recorded_study(run)


def _attack(parsed: argparse.Namespace) -> int:
    from advrec.tools.attack import attack_one

    loaded, out = _load(parsed)
    attack_one(
        Run(out), loaded, parsed.model, parsed.attack, parsed.epsilon, parsed.target, parsed.article
    )
    return 0


def _recommend(parsed: argparse.Namespace) -> int:
    from advrec.tools.recommend import recommend
    from advrec.tools.recommend_user import recommend_to_user

    if parsed.user is not None and (parsed.id is not None or parsed.hnsw):
        beside = "ID" if parsed.id is not None else "--hnsw"
        raise ConfigError(f"--user asks for a user, {beside} for an article; leave one out")
    loaded, out = _load(parsed)
    run, model, k = Run(out), parsed.model, parsed.k
    if parsed.user is not None:
        recommend_to_user(run, loaded, model, parsed.user, 10 if k is None else k)
    else:
        recommend(run, loaded, model, parsed.id, 8 if k is None else k, approximate=parsed.hnsw)
    return 0


def _catalog(parsed: argparse.Namespace) -> int:
    from advrec.tools.catalog import show_catalog

    loaded, out = _load(parsed)
    show_catalog(Run(out), loaded)
    return 0


def _export(parsed: argparse.Namespace) -> int:
    from advrec.tools.export import export_model

    run, loaded = _open_run(parsed.directory)
    print(export_model(run, loaded, parsed.model, parsed.file))
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "study": _stages,
    "prepare": _stages,
    "train": _stages,
    "evaluate": _stages,
    "demo": _demo,
    "report": _report,
    "import-published": _import_published,
    "tune": _tune,
    "status": _status,
    "push": _push,
    "export": _export,
    "attack": _attack,
    "recommend": _recommend,
    "catalog": _catalog,
}


if __name__ == "__main__":
    sys.exit(main())
