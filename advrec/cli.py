"""The command line: one command a stage, one for all of them, and a few to look at a run.

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
from advrec.errors import AdvrecError, ConfigError, StudyError, first_line
from advrec.run import identity
from advrec.run.directory import Run, open_run
from advrec.spec import study as study_file
from advrec.stages import plan, report, status, study

SET_ASIDE = 3
INTERRUPTED = 130
DEMO_TAKES = "about 6 minutes on two cores"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (docs/reference/exit-codes.md)."""
    parsed = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = parsed.function
    # SIGTERM, as a job manager or `kill` sends it, ends a run as orderly as Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = command(parsed)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="advrec",
        description="How easily can a seller push an article into similar-articles lists?",
    )
    parser.add_argument("--version", action="version", version=f"advrec {advrec.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (
        _add_stages,
        _add_demo,
        _add_report,
        _add_import_published,
        _add_tune,
        _add_status,
        _add_push,
        _add_attack,
        _add_recommend,
        _add_catalog,
    ):
        add(commands)
    return parser


def _add(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    """Add one command; `text` stands in the list of commands and in its own help."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    return command


def _add_on_study(
    commands: Any, name: str, text: str, metavar: str = "STUDY.yaml"
) -> argparse.ArgumentParser:
    """Add a command that works on a study and its run directory."""
    command = _add(commands, name, text)
    command.add_argument("study", type=Path, metavar=metavar, help="the study")
    _add_out(command, "run directory (default results/<study name>)")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        help="override a key of the study",
    )
    return command


def _add_out(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument("--out", type=Path, metavar="DIR", help=text)


def _add_address(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--address", help="Ray cluster to use; by default RAY_ADDRESS, else this machine alone"
    )


def _add_stages(commands: Any) -> None:
    for name, text in {
        "study": "all stages: prepare, train, evaluate, report; run again to resume",
        "prepare": "stage 1: images to catalog",
        "train": "stage 2: the study's models",
        "evaluate": "stage 3: attack every tuple, rank the result",
    }.items():
        command = _add_on_study(commands, name, text)
        _add_address(command)
        command.add_argument(
            "--dry-run",
            action="store_true",
            help="say what is done and what is left, and do nothing",
        )
        command.set_defaults(function=_stages, stages=study.STAGES if name == "study" else (name,))


def _add_demo(commands: Any) -> None:
    command = _add(commands, "demo", "the study on drawn garments that ships with advrec")
    _add_out(command, "run directory (default results/demo)")
    command.set_defaults(function=_demo)


def _add_report(commands: Any) -> None:
    text = "stage 4: tables, figures and page, from Parquet alone"
    command = _add_on_study(commands, "report", text, "STUDY.yaml or DIR")
    command.add_argument(
        "--partial", action="store_true", help="report what there is of an unfinished run"
    )
    command.add_argument(
        "--against", type=Path, metavar="RUN_B", help="compare with another run, tuple by tuple"
    )
    command.set_defaults(function=_report)


def _add_import_published(commands: Any) -> None:
    text = "the published per-tuple files of the study, as a run that can be reported"
    command = _add(commands, "import-published", text)
    command.add_argument(
        "directory",
        type=Path,
        metavar="DIR",
        help="the original repository, or its results/evaluation",
    )
    command.add_argument(
        "--out", type=Path, metavar="RUN", required=True, help="run directory, new or empty"
    )
    command.set_defaults(function=_import_published)


def _add_tune(commands: Any) -> None:
    text = "search: trials over a space of studies, their Pareto front, and the best as a study"
    command = _add(commands, "tune", text)
    command.add_argument("search", type=Path, metavar="TUNE.yaml", help="the search")
    _add_out(command, "directory of the search (default results/tune-<its name>)")
    _add_address(command)
    command.set_defaults(function=_tune)


def _add_status(commands: Any) -> None:
    command = _add(commands, "status", "what is done, what is left, what was set aside")
    command.add_argument("directory", type=Path, metavar="DIR", help="run directory")
    command.set_defaults(function=_status)


def _add_push(commands: Any) -> None:
    text = "copy a finished run to an object store, or any place that has a URL"
    command = _add(commands, "push", text)
    command.add_argument("directory", type=Path, metavar="RUN", help="run directory")
    command.add_argument(
        "url", metavar="URL", help="s3://bucket/name, gs://bucket/name, ..., or a directory"
    )
    command.set_defaults(function=_push)


def _add_attack(commands: Any) -> None:
    command = _add_on_study(commands, "attack", "one example, with pictures")
    for option, metavar, text in (
        ("--model", "M", "a model of the study"),
        ("--attack", "NAME", "an attack of the study, or any: pgd-128, apgd-100, auto, ..."),
        ("--target", "ID", "article whose list is entered: its number or its name"),
        ("--article", "ID", "article whose image is changed: its number or its name"),
    ):
        command.add_argument(option, required=True, metavar=metavar, help=text)
    command.add_argument("--epsilon", required=True, type=float, help="budget, 0..1")
    command.set_defaults(function=_attack)


def _add_recommend(commands: Any) -> None:
    text = "the nearest articles, as a picture and as a table"
    command = _add_on_study(commands, "recommend", text)
    command.add_argument("id", metavar="ID", help="article: its number or its name")
    command.add_argument("--model", required=True, help="a model of the study")
    command.add_argument("-k", type=int, default=8, help="how many neighbours (default 8)")
    text = "the list of an approximate index (HNSW), and what it misses"
    command.add_argument("--hnsw", action="store_true", help=text)
    command.set_defaults(function=_recommend)


def _add_catalog(commands: Any) -> None:
    text = "what the catalog holds, with a contact sheet and, of embedded models, a map"
    _add_on_study(commands, "catalog", text).set_defaults(function=_catalog)


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
    if parsed.dry_run:
        from advrec.stages.dry_run import dry_run

        print(dry_run(Run(out), loaded, stages=parsed.stages, address=parsed.address))
        return 0
    return study.run_study(loaded, out, stages=parsed.stages, address=parsed.address)


def _demo(parsed: argparse.Namespace) -> int:
    loaded = study_file.load(Path(advrec.__file__).with_name("demo.yaml"))
    out = _lasting(parsed.out or Path("results") / loaded.name)
    if not Run(out).catalog.exists():
        print(f"demo: {DEMO_TAKES}, as measured; Ctrl-C stops it, the same command goes on")
    return study.run_study(loaded, out)


def _report(parsed: argparse.Namespace) -> int:
    other = parsed.against and _open_run(parsed.against)[0]
    if parsed.study.is_dir():
        run, loaded = _open_run(parsed.study)
    elif parsed.study.exists():
        loaded, out = _load(parsed)
        _open_run(out)  # which a report does not begin
        return study.run_study(loaded, out, stages=("report",), partial=parsed.partial, other=other)
    else:
        raise ConfigError(
            f"{parsed.study}: is not there; "
            "name a run directory, or the file of a study that was run"
        )
    report.run_stage(run, partial=parsed.partial, other=other)
    return study.exit_code(run, loaded)


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

    loaded, out = _load(parsed)
    recommend(Run(out), loaded, parsed.model, parsed.id, parsed.k, approximate=parsed.hnsw)
    return 0


def _catalog(parsed: argparse.Namespace) -> int:
    from advrec.tools.catalog import show_catalog

    loaded, out = _load(parsed)
    show_catalog(Run(out), loaded)
    return 0


if __name__ == "__main__":
    sys.exit(main())
