"""The command line: one command a stage, one for all of them, and a few to look at a run."""

import argparse
import importlib.resources
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from advrec.errors import AdvrecError, ConfigError, first_line
from advrec.run.directory import Run
from advrec.spec import study as study_file
from advrec.stages import plan, report, status, study

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (contract 1: 0, 1, 2, 3 or 130)."""
    parsed = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = parsed.function
    # SIGTERM, as a job manager or `kill` sends it, ends a run as orderly as Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return command(parsed)
    except AdvrecError as error:
        print(f"advrec: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            "\nadvrec: interrupted; what is finished is kept, the same command goes on from there",
            file=sys.stderr,
        )
        return INTERRUPTED
    except pa.ArrowInvalid as error:
        print(
            f"advrec: a table of the run cannot be read ({first_line(error)}); restore it, or name another --out",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:
        return 1
    except OSError as error:
        print(
            f"advrec: {error.filename or 'a file'}: {error.strerror or error}; what is finished is kept",
            file=sys.stderr,
        )
        return 1


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="advrec",
        description="How easily can a seller push an article into your shop's similar-articles lists?",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    texts = {
        "study": "all stages: prepare, train, evaluate, report; run again to resume",
        "prepare": "stage 1: images to catalog",
        "train": "stage 2: the study's models",
        "evaluate": "stage 3: attack every tuple, rank the result",
    }
    for name, text in texts.items():
        command = _study_command(commands, name, text)
        command.add_argument(
            "--address", help="Ray cluster to use; by default RAY_ADDRESS, else this machine alone"
        )
        command.add_argument(
            "--dry-run",
            action="store_true",
            help="say what is done and what is left, and do nothing",
        )
        command.set_defaults(function=_stages, stages=study.STAGES if name == "study" else (name,))
    demo = commands.add_parser("demo", help="the study on drawn garments that ships with advrec")
    demo.add_argument("--out", type=Path, help="run directory (default results/demo)")
    demo.set_defaults(function=_demo)
    page = _study_command(
        commands,
        "report",
        "stage 4: tables, figures and page, from Parquet alone",
        "STUDY.yaml or DIR",
    )
    page.add_argument(
        "--partial", action="store_true", help="report what there is of an unfinished run"
    )
    page.add_argument(
        "--against", type=Path, metavar="RUN_B", help="compare with another run, tuple by tuple"
    )
    page.set_defaults(function=_report)
    published = commands.add_parser(
        "import-published",
        help="the published per-tuple files of the study, as a run that can be reported",
    )
    published.add_argument(
        "directory",
        type=Path,
        metavar="DIR",
        help="the original repository, or its results/evaluation",
    )
    published.add_argument(
        "--out", type=Path, metavar="RUN", required=True, help="run directory, new or empty"
    )
    published.set_defaults(function=_import_published)
    tune = commands.add_parser(
        "tune",
        help="search: trials over a space of studies, their Pareto front, and the best as a study file",
    )
    tune.add_argument("search", type=Path, metavar="TUNE.yaml")
    tune.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="directory of the search (default results/tune-<its name>)",
    )
    tune.add_argument(
        "--address", help="Ray cluster to use; by default RAY_ADDRESS, else this machine alone"
    )
    tune.set_defaults(function=_tune)
    status = commands.add_parser("status", help="what is done, what is left, what was set aside")
    status.add_argument("directory", type=Path, metavar="DIR", help="run directory")
    status.set_defaults(function=_status)
    pushed = commands.add_parser(
        "push", help="copy a finished run to an object store, or any place that has a URL"
    )
    pushed.add_argument("directory", type=Path, metavar="RUN", help="run directory")
    pushed.add_argument(
        "url", metavar="URL", help="s3://bucket/name, gs://bucket/name, ..., or a directory"
    )
    pushed.set_defaults(function=_push)
    attack = _study_command(commands, "attack", "one example, with pictures")
    attack.add_argument("--model", required=True)
    attack.add_argument(
        "--attack",
        required=True,
        help="the name of an attack of the study, or of any: pgd-128, apgd-100, auto, ...",
    )
    attack.add_argument("--epsilon", required=True, type=float, help="budget, 0..1")
    attack.add_argument(
        "--target",
        required=True,
        metavar="ID",
        help="article whose list is entered: its number or its name",
    )
    attack.add_argument(
        "--article",
        required=True,
        metavar="ID",
        help="article whose image is changed: its number or its name",
    )
    attack.set_defaults(function=_attack)
    recommend = _study_command(
        commands, "recommend", "the nearest articles, as a picture and as a table"
    )
    recommend.add_argument("id", metavar="ID", help="article: its number or its name")
    recommend.add_argument("--model", required=True)
    recommend.add_argument("-k", type=int, default=8, help="how many neighbours (default 8)")
    recommend.set_defaults(function=_recommend)
    catalog = _study_command(
        commands,
        "catalog",
        "what the catalog holds, with a contact sheet and, of embedded models, a map",
    )
    catalog.set_defaults(function=_catalog)
    return parser


def _study_command(
    commands: Any, name: str, text: str, metavar: str = "STUDY.yaml"
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.add_argument("study", type=Path, metavar=metavar)
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="run directory (default results/<study name>)"
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        help="override a key of the study",
    )
    return command


def _load(parsed: argparse.Namespace) -> tuple[study_file.Study, Path]:
    loaded = study_file.load(parsed.study, parsed.set)
    return loaded, _lasting(parsed.out or Path("results") / loaded.name)


def _lasting(out: Path) -> Path:
    """Refuse results inside the copy of a working directory that Ray makes for a job and deletes
    after it.
    """
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    if job.get("runtime_env", {}).get("working_dir") and out.resolve().is_relative_to(Path.cwd()):
        raise ConfigError(
            f"--out is {out}, which lies in Ray's copy of the job's working directory and would vanish with it; name an absolute --out on "
            f"a disk that stays"
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
    with importlib.resources.as_file(importlib.resources.files("advrec") / "demo.yaml") as path:
        loaded = study_file.load(path)
    return study.run_study(loaded, _lasting(parsed.out or Path("results") / loaded.name))


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
            f"{parsed.study}: is not there; name a run directory, or the file of a study that was run"
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
                f"{run.directory} is not finished: run its study again; `advrec status {run.directory}` says what is left"
            )
        if status.is_stale(run):
            raise AdvrecError(
                f"{run.report} was made before the last results: `advrec report {run.directory}` makes it again, then push"
            )
        print(f"{push(run, parsed.url)} files are at {parsed.url}")
    return study.exit_code(run, loaded)


def _open_run(directory: Path) -> tuple[Run, study_file.Study]:
    run = Run(directory)
    if not run.study.exists():
        raise ConfigError(
            f"{directory}: is not a run directory (it holds no study.yaml); name one below results/"
        )
    return run, study_file.read(run.study)


def _attack(parsed: argparse.Namespace) -> int:
    from advrec.tools import lookup

    loaded, out = _load(parsed)
    lookup.attack_one(
        Run(out), loaded, parsed.model, parsed.attack, parsed.epsilon, parsed.target, parsed.article
    )
    return 0


def _recommend(parsed: argparse.Namespace) -> int:
    from advrec.tools import lookup

    loaded, out = _load(parsed)
    lookup.recommend(Run(out), loaded, parsed.model, parsed.id, parsed.k)
    return 0


def _catalog(parsed: argparse.Namespace) -> int:
    from advrec.tools import lookup

    loaded, out = _load(parsed)
    lookup.show_catalog(Run(out), loaded)
    return 0


if __name__ == "__main__":
    sys.exit(main())
