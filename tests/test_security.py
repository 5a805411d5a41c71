"""What SECURITY.md says of files: none of them runs code, and no name of a study is a path."""

import ast
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import torch
import yaml

from advrec import cli
from advrec.errors import ConfigError
from advrec.run import schema
from advrec.run.directory import Run
from advrec.run.tables import read_embeddings, read_outcomes, read_table
from advrec.spec import study as study_file
from advrec.spec import yaml as strict_yaml
from tests.conftest import STUDY

ADVREC = Path(cli.__file__).parent


class Malicious:
    """Unpickled, it makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path):
    """A file that is there when a malicious pickle was read as one."""
    path = tmp_path / "marker"
    pickle.loads(pickle.dumps(Malicious(path)))
    assert path.exists(), "the pickle does what it should not"
    path.unlink()
    return path


@pytest.fixture
def run(prepared, tmp_path):
    """A run directory with a prepared catalog, to be spoilt."""
    copied = Path(
        shutil.copytree(
            prepared.directory, tmp_path / "run", ignore=shutil.ignore_patterns("synthetic")
        )
    )
    (copied / ".lock").touch()
    return Run(copied)


def written(directory, **changes):
    path = directory / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY | changes))
    return str(path)


def refused(capsys, *arguments):
    """The one sentence with which a command ends, and its exit code."""
    code = cli.main(arguments)
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert sentence.startswith("advrec: ")
    return code, sentence


def bare(path, thing):
    path.write_bytes(pickle.dumps(thing, protocol=2))


@pytest.mark.parametrize(
    "save", [bare, lambda path, thing: torch.save(thing, path)], ids=["pickle", "torch"]
)
@pytest.mark.parametrize("file", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize(
    "model",
    [{"model": "resnet18", "checkpoint": ...}, {"defense": "none", "weights": ...}],
    ids=["checkpoint", "weights"],
)
def test_a_pickle_named_by_a_study_is_not_executed(
    run, tmp_path, capsys, marker, save, file, model
):
    save(tmp_path / file, {"state_dict": Malicious(marker)})
    spec = {key: file if value is ... else value for key, value in model.items()}
    code, sentence = refused(
        capsys, "train", written(tmp_path, models={"evil": spec}), "--out", str(run.directory)
    )
    assert not marker.exists()
    assert code == 2
    assert f"{file} cannot be read as weights" in sentence


@pytest.mark.parametrize(
    "save", [bare, lambda path, thing: torch.save(thing, path)], ids=["pickle", "torch"]
)
def test_a_pickle_in_torchs_cache_is_not_executed(run, tmp_path, capsys, marker, monkeypatch, save):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / "mobilenet_v2-b0353104.pth"
    cached.parent.mkdir(parents=True)
    save(cached, Malicious(marker))
    models = {"evil": {"defense": "none", "weights": "imagenet"}}
    code, sentence = refused(
        capsys, "train", written(tmp_path, models=models), "--out", str(run.directory)
    )
    assert not marker.exists()
    assert code == 1
    assert "the ImageNet weights of mobilenet_v2 cannot be loaded" in sentence


def recommend(run, directory):
    """The arguments of `advrec recommend` for the first article."""
    return "recommend", written(directory), "0", "--model", "unsecured", "--out", str(run.directory)


@pytest.mark.parametrize(
    "save", [bare, lambda path, thing: torch.save(thing, path)], ids=["pickle", "torch"]
)
def test_a_pickle_as_a_models_weights_is_not_executed(run, tmp_path, capsys, marker, save):
    run.model("unsecured").mkdir(parents=True)
    save(run.weights("unsecured"), Malicious(marker))
    code, sentence = refused(capsys, *recommend(run, tmp_path))
    assert not marker.exists()
    assert code == 1
    assert "is not a checkpoint of advrec" in sentence


READERS = {
    "embeddings": (
        lambda run: run.embedding_shard("m", 0),
        lambda run: read_embeddings(run, "m", 8),
    ),
    "outcomes": (
        lambda run: run.block("m", "fgsm", 0),
        lambda run: read_outcomes(run.attacks),
    ),
    "tuples": (lambda run: run.tuples, lambda run: read_table(run.tuples, schema.TUPLES)),
}


@pytest.mark.parametrize(("place", "read"), READERS.values(), ids=READERS)
def test_a_pickle_as_a_table_is_not_executed(tmp_path, marker, place, read):
    run = Run(tmp_path)
    place(run).parent.mkdir(parents=True, exist_ok=True)
    bare(place(run), Malicious(marker))
    with pytest.raises(pa.ArrowInvalid):
        read(run)
    assert not marker.exists()


def test_a_table_that_is_none_is_said_in_one_sentence(run, tmp_path, capsys):
    run.catalog.write_bytes(b"no table")
    code, sentence = refused(capsys, *recommend(run, tmp_path))
    assert code == 1
    assert "a table of the run cannot be read" in sentence


def test_yaml_makes_no_objects(tmp_path, capsys, marker):
    tag = f"!!python/object/apply:os.mknod [{marker}]"
    yaml.load(tag, Loader=yaml.UnsafeLoader)
    assert marker.exists(), "the tag does what it should not"
    marker.unlink()
    good = written(tmp_path)
    evil = tmp_path / "run" / "study.yaml"
    evil.parent.mkdir()
    evil.write_text(Path(good).read_text().replace("name: tiny", f"name: {tag}"))
    for arguments in (
        ["study", str(evil), "--dry-run"],
        ["study", good, "--dry-run", "--set", f"name={tag}"],
        ["status", str(evil.parent)],
    ):
        code, sentence = refused(capsys, *arguments)
        assert not marker.exists()
        assert code == 2
        assert "is not valid YAML" in sentence


PLACES = {
    "study": lambda name: {"name": name},
    "model": lambda name: {"models": {name: {"defense": "none"}}},
    "attack": lambda name: {
        "evaluation": STUDY["evaluation"] | {"attacks": [{"name": name, "attack": "fgsm"}]}
    },
}


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "a\\b", ".x", "..", "", "a\0", "a" * 65])
@pytest.mark.parametrize("place", PLACES)
def test_a_name_is_no_path(tmp_path, capsys, place, name):
    # A dry run: where a name is taken that should not be, no study starts here.
    code, sentence = refused(
        capsys,
        "study",
        written(tmp_path, **PLACES[place](name)),
        "--dry-run",
        "--out",
        str(tmp_path / "run"),
    )
    assert code == 2
    assert place in sentence or "name" in sentence


@pytest.mark.parametrize("place", PLACES)
def test_a_name_holds_no_end_of_line(place):
    with pytest.raises(ConfigError):
        study_file.parse(STUDY | PLACES[place]("a\n"), "test")


@pytest.mark.parametrize("place", PLACES)
def test_a_name_that_is_no_path_is_taken(tmp_path, place):
    assert (
        cli.main(
            [
                "study",
                written(tmp_path, **PLACES[place]("a-b_1")),
                "--out",
                str(tmp_path / "run"),
                "--dry-run",
            ]
        )
        == 0
    )


RUNS_CODE = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def code_from_data(source):
    """Where a module would run code from a file: each place as a line and what stands there."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in RUNS_CODE:
            yield node.lineno, node.module
        if isinstance(node, ast.Import):
            # pickle may be imported, under its own name, for its errors: what is used of it is
            # looked at below.
            names = [alias.name for alias in node.names if alias.name != "pickle" or alias.asname]
            yield from ((node.lineno, name) for name in names if name.split(".")[0] in RUNS_CODE)
        if (
            isinstance(node, ast.Attribute)
            and ast.unparse(node.value) == "pickle"
            and node.attr not in ("UnpicklingError", "PickleError")
        ):
            yield node.lineno, ast.unparse(node)
        if isinstance(node, ast.Call):
            called, keys = (
                ast.unparse(node.func),
                {key.arg: ast.unparse(key.value) for key in node.keywords},
            )
            loads_torch = (
                called.startswith("torch.")
                and called.endswith(".load")
                and not called.startswith(("torch.hub", "torch.ops"))
            )
            if (
                called
                in (
                    "eval",
                    "exec",
                    "yaml.unsafe_load",
                    "yaml.full_load",
                    "yaml.load_all",
                    "torch.hub.load",
                    "pd.read_pickle",
                )
                or (loads_torch and keys.get("weights_only") != "True")
                or (
                    called == "yaml.load"
                    and keys.get("Loader") not in ("_Loader", "yaml.SafeLoader")
                )
                or keys.get("allow_pickle", "False") != "False"
            ):
                yield node.lineno, called


def test_no_module_runs_code_from_a_file():
    modules = sorted(ADVREC.rglob("*.py"))
    assert len(modules) > 40
    assert {
        str(path): found for path in modules if (found := list(code_from_data(path.read_text())))
    } == {}
    assert issubclass(strict_yaml._Loader, yaml.SafeLoader)


@pytest.mark.parametrize(
    "line",
    [
        "import dill",
        "from pickle import loads",
        "import pickle as p",
        "import pickle; pickle.loads(data)",
        "import pickle; pickle.Unpickler(file).load()",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=trusted)",
        "yaml.load(text, yaml.Loader)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
        "torch.hub.load(repository, name)",
        "eval(text)",
    ],
)
def test_code_from_a_file_is_seen(line):
    assert list(code_from_data(line))


@pytest.mark.ray
def test_ray_asks_for_a_token_even_where_nothing_says_so(tmp_path):
    """In a process of its own, with an empty home: what session.py sets before Ray is imported."""
    code = (
        "from advrec.distributed.session import session\n"
        "import os, ray\n"
        "print(os.environ['RAY_AUTH_MODE'], len(os.environ['RAY_AUTH_TOKEN']))\n"
        "with session():\n"
        "    print(ray._private.worker.global_worker.node.webui_url or 'no dashboard')\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ADVREC.parent),
    }
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert said.stdout.splitlines() == ["token 64", "no dashboard"], said.stderr
