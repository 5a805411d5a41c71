"""`advrec export`: a model of a run as a plain state dict, with its card beside it."""

from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from advrec.delivery.door import Door
from advrec.errors import ConfigError
from advrec.model import checkpoint, export
from advrec.model.checkpoint import Network
from advrec.model.export import Exported
from advrec.model.own import OwnNetwork
from advrec.reports import results
from advrec.reports.results import Results
from advrec.reports.tables import changes
from advrec.reports.tables.rows import records
from advrec.run.directory import Run
from advrec.run.files import read_json, write_text
from advrec.spec import chains
from advrec.spec.messages import suggest
from advrec.spec.study import Study, as_dict


def export_model(run: Run, study: Study, model: str, path: Path) -> Path:
    """Write the encoder's state dict to `path`, and its card, which is returned, beside it.

    Raises:
        ConfigError: there is no such model, or the file's ending says no format.
        AdvrecError: the model is not trained yet.
    """
    if model not in study.encoders:
        raise ConfigError(
            f"--model is {model}, which is not an encoder of the run; encoders: "
            f"{', '.join(study.encoders)}{suggest(model, list(study.encoders))}"
        )
    if joined := chains.joined(study.models[model]):
        raise ConfigError(
            f"--model is {model}, which joins {' and '.join(dict.fromkeys(joined))} and is of no "
            "library; export these, and put their embeddings side by side"
        )
    export.check(path)
    run.require_weights(model)
    network = checkpoint.load_single(run.weights(model))
    made = export.exported(network)
    export.save(path, made)
    card = path.with_name(f"{path.name}.md")
    weights = _began_with(network)
    write_text(card, "\n".join(_card(run, study, model, path, made, weights, network.door)) + "\n")
    return card


def _began_with(network: Network) -> str:
    """A sentence on the pretrained weights that an encoder of a library began with; empty where
    none were loaded, or that is not known.
    """
    named = network.architecture.named if isinstance(network, OwnNetwork) else None
    if named is None or not named.weights:
        return ""
    return f"Its pretrained weights were {named.weights} of {named.library} {named.version}.\n"


def _card(
    run: Run, study: Study, model: str, path: Path, made: Exported, weights: str, door: Door | None
) -> Iterator[str]:
    """Lines of the card: what the model was, how it was defended, what was measured."""
    yield f"# {path.name}\n"
    yield (
        f"The encoder of the model {model} of the study {study.name}, exported by "
        f"advrec {metadata.version('advrec')}.\n"
    )
    yield "## What it is\n"
    entries = as_dict(study)["models"]
    chain = [model]
    while study.models[chain[-1]].init != "none":
        chain.append(study.models[chain[-1]].init)
    keys = {name: entries[name] for name in reversed(chain)}
    yield "The entries of the study that made it, the last one it:\n"
    yield f"```yaml\n{yaml.safe_dump(keys, sort_keys=False)}```\n"
    if weights:
        yield weights
    yield "## How to load it\n"
    yield "The names are those of its library's own module, and it is loaded strictly:\n"
    yield f"```python\n{made.program(path)}\n```\n"
    size = study.catalog.image_size
    yield f"The catalog of the study holds square images of {size} pixels a side. "
    yield f"The network reads {made.reads}. Another preparation moves its embeddings.\n"
    if door is not None:
        yield (
            f"What was measured below is of images after `ingest: {door.ingest}`, the catalog's "
            "too, which is not in this file: do it to every image before it is embedded.\n"
        )
    yield "## What was measured\n"
    yield from _measured(run, study, model)


def _measured(run: Run, study: Study, model: str) -> Iterator[str]:
    metrics = read_json(run.model(model) / "metrics.json", default={})
    if metrics:
        init = study.models[model].init
        against = (
            f"; drift is from {init}, which it began with" if "drift_median" in metrics else ""
        )
        yield f"On the test split, after training (metrics.json{against}):\n"
        yield from _known(metrics)
    if not run.tuples.exists():
        yield "The study has attacked no model yet.\n"
        return
    read = results.read(run)
    rows = read.success[(read.success["model"] == model) & (read.success["rank"] == read.rank)]
    if rows.empty:
        yield "The study has not attacked this model.\n"
        return
    yield f"Success of attacks at rank {read.rank}, in percent with 95 % interval:\n"
    yield from _table([_success(read, row) for row in records(rows)])
    for row in records(changes.changes(read)):
        if row["model"] == model:
            yield f"In use, against the original, {row['original']} (changes.csv):\n"
            yield from _known({key: row[key] for key in list(row)[2:]})
    failed = [
        check.name for name, check in read.checks if name == model and check.verdict == "failed"
    ]
    if failed:
        yield f"Self-checks that failed: {', '.join(failed)}.\n"


def _success(read: Results, row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "attack": row["attack"],
        "budget": read.shown(row["epsilon"]),
        "success": f"{row['percent']:.1f}",
        "interval": f"{row['low_percent']:.1f} to {row['high_percent']:.1f}",
        "n": f"{row['n']:,}",
    }


def _known(measures: Mapping[str, Any]) -> Iterator[str]:
    """A table of measures, without those that are not known."""
    rows = [
        {"measure": key, "value": _short(value)}
        for key, value in measures.items()
        if pd.notna(value)
    ]
    yield from _table(rows) if rows else ()


def _table(rows: list[dict[str, str]]) -> Iterator[str]:
    names = list(rows[0])
    yield f"| {' | '.join(names)} |"
    yield f"|{'---|' * len(names)}"
    yield from (f"| {' | '.join(row.values())} |" for row in rows)
    yield ""


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
