"""The arguments of every command: what can be typed, and what its help says."""

import argparse
from pathlib import Path
from typing import Any

import advrec


def parser() -> argparse.ArgumentParser:
    """Make the parser of a whole command line; what it parses names its `command`."""
    line = argparse.ArgumentParser(
        prog="advrec",
        description="How easily can a seller push an article into similar-articles lists?",
    )
    line.add_argument("--version", action="version", version=f"advrec {advrec.__version__}")
    commands = line.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    for add in (
        _add_stages,
        _add_demo,
        _add_report,
        _add_import_published,
        _add_tune,
        _add_status,
        _add_push,
        _add_export,
        _add_attack,
        _add_recommend,
        _add_catalog,
    ):
        add(commands)
    return line


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


def _add_demo(commands: Any) -> None:
    command = _add(commands, "demo", "the study on drawn garments that ships with advrec")
    _add_out(command, "run directory (default results/demo)")


def _add_report(commands: Any) -> None:
    text = "stage 4: tables, figures and page, from Parquet alone"
    command = _add_on_study(commands, "report", text, "STUDY.yaml or DIR")
    command.add_argument(
        "--partial", action="store_true", help="report what there is of an unfinished run"
    )
    command.add_argument(
        "--against", type=Path, metavar="RUN_B", help="compare with another run, tuple by tuple"
    )
    command.add_argument(
        "--junit",
        type=Path,
        metavar="FILE",
        help="write gates and self-checks there too, as JUnit cases",
    )


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


def _add_tune(commands: Any) -> None:
    text = "search: trials over a space of studies, their Pareto front, and the best as a study"
    command = _add(commands, "tune", text)
    command.add_argument("search", type=Path, metavar="TUNE.yaml", help="the search")
    _add_out(command, "directory of the search (default results/tune-<its name>)")
    _add_address(command)


def _add_status(commands: Any) -> None:
    command = _add(commands, "status", "what is done, what is left, what was set aside")
    command.add_argument("directory", type=Path, metavar="DIR", help="run directory")


def _add_push(commands: Any) -> None:
    text = "copy a finished run to an object store, or any place that has a URL"
    command = _add(commands, "push", text)
    command.add_argument("directory", type=Path, metavar="RUN", help="run directory")
    command.add_argument(
        "url", metavar="URL", help="s3://bucket/name, gs://bucket/name, ..., or a directory"
    )


def _add_export(commands: Any) -> None:
    text = "a trained or defended encoder as a plain state dict, with its card"
    command = _add(commands, "export", text)
    command.add_argument("directory", type=Path, metavar="RUN", help="run directory")
    command.add_argument("--model", required=True, metavar="M", help="a model of the run")
    command.add_argument(
        "file", type=Path, metavar="FILE", help="ends in .safetensors, .pt, .pth or .bin"
    )


def _add_attack(commands: Any) -> None:
    command = _add_on_study(commands, "attack", "one example, with pictures")
    for option, metavar, text in (
        ("--model", "M", "a model of the study"),
        (
            "--attack",
            "NAME",
            "an attack of the study, or any: pgd-128, auto, package.module:function, ...",
        ),
        ("--target", "ID", "article whose list is entered: its number or its name"),
        ("--article", "ID", "article whose image is changed: its number or its name"),
    ):
        command.add_argument(option, required=True, metavar=metavar, help=text)
    command.add_argument("--epsilon", required=True, help="budget, 0..1, or in levels as 2/255")


def _add_recommend(commands: Any) -> None:
    text = "the nearest articles, or the best for a user, as a picture and as a table"
    command = _add_on_study(commands, "recommend", text)
    text = "article: its number or its name"
    article = command.add_argument("id", metavar="ID", help=text)

    class User(argparse.Action):
        """An option that stands in the place of ID."""

        def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
            namespace.user, article.required = values, False

    text = "in the place of ID: a user, as the interactions call it; MODEL is then a hybrid"
    command.add_argument("--user", action=User, metavar="U", help=text)
    command.add_argument("--model", required=True, help="a model of the study")
    text = "how many articles (default 8, 10 for a user)"
    command.add_argument("-k", type=int, help=text)
    text = "the list of an approximate index (HNSW), and what it misses"
    command.add_argument("--hnsw", action="store_true", help=text)


def _add_catalog(commands: Any) -> None:
    text = "what the catalog holds, with a contact sheet and, of embedded models, a map"
    _add_on_study(commands, "catalog", text)
