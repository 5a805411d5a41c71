"""`advrec tune`: trials over a space of studies, the Pareto front of what they reach, and the best
of them as a study file.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import yaml

from advrec.attacks import names
from advrec.catalog.dataset import Catalog
from advrec.errors import AdvrecError, ConfigError
from advrec.reports.pictures import pareto
from advrec.run import identity, log
from advrec.run.directory import Run
from advrec.run.files import read_json, write_json, write_table, write_text
from advrec.spec import search as search_file
from advrec.spec import study as study_file
from advrec.spec.search import MODES, TuneSpec
from advrec.spec.study import Study
from advrec.stages import study

WORKERS = 1  # of a trial


def run(file: Path, out: Path | None = None, *, address: str | None = None) -> int:
    """Run a search, or go on with one.

    Returns:
        Exit code of contract 1: 0, or 3 if trials failed.

    Raises:
        ConfigError: the search is impossible, or `out` holds another.
        AdvrecError: it could not be done.
    """
    spec, content, directory = search_file.load(file)
    whole = study_file.resolve(content, str(file), directory)
    try:
        names.check(spec.attack)
    except ConfigError as error:
        raise ConfigError(f"{file}: attack: {error}") from None
    out = (out or Path("results") / f"tune-{spec.name}").resolve()
    home = Run(out)
    home.check_directory()
    with home.lock():
        _claim(out, spec, whole)
        base = Run(out / "base")
        before, stages = _before(whole, spec)
        study.run_study(before, base.directory, stages=stages, address=address)
        from advrec.distributed.session import session  # before what imports ray
        from advrec.distributed.tune import search
        from advrec.search.trial import check

        check(spec, whole, Catalog(base))
        with log.kept(home.log), session(address):
            trials = pd.DataFrame(search(spec, base, content, directory, out))
        _write(trials, out, spec, content, directory)
    return 3 if len(trials) < spec.num_trials else 0


def _before(whole: Study, spec: TuneSpec) -> tuple[Study, tuple[str, ...]]:
    """The study of the models that the searched one starts from, and its stages; without any, that
    of the catalog alone.
    """
    chain = _chain(whole, spec)
    content = study_file.as_dict(whole)
    content["models"] = {
        name: content["models"][name] | {"compared": True} for name in chain or [spec.model]
    }
    content["resources"]["training_workers"] = WORKERS
    # not made: the others may name other models or files
    content["evaluation"] |= {"attacks": [spec.attack], "tuples": spec.tuples}
    return study_file.parse(content, "the study before the search"), (
        "prepare",
        "train",
    ) if chain else ("prepare",)


def _chain(whole: Study, spec: TuneSpec) -> list[str]:
    """The models that the searched one starts from, in the order of their training."""
    chain: list[str] = []
    entry = whole.models[spec.model]
    while entry.init != "none":
        chain.insert(0, entry.init)
        entry = whole.models[entry.init]
    return chain


def _claim(out: Path, spec: TuneSpec, whole: Study) -> None:
    """Refuse to mix trials of another search with these: raises ConfigError."""
    wanted = identity.search(spec, whole, [*_chain(whole, spec), spec.model])
    path = out / "search.json"
    recorded = read_json(path, default=wanted)
    if recorded != wanted:
        part = next(part for part in wanted if recorded.get(part) != wanted[part])
        there = recorded.get(part, {})
        differs = sorted(key for key in wanted[part] if there.get(key) != wanted[part][key])
        raise ConfigError(
            f"{out} holds another search: its {part} differs in "
            f"{', '.join(differs) or 'some keys'}; name another --out"
        )
    write_json(path, wanted)


def _write(
    trials: pd.DataFrame, out: Path, spec: TuneSpec, content: dict[str, Any], directory: Path
) -> None:
    """trials.parquet, the Pareto front as pareto.csv and figure, and best.yaml."""
    modes = {objective: MODES[objective] for objective in spec.objectives}
    whole = trials[trials["seconds"].notna()]  # asha stopped the others
    if whole.empty:
        raise AdvrecError(f"no trial was measured to its end; {out}/trials holds what they left")
    front = (
        whole[pareto.front(whole, modes)].drop_duplicates("trial").sort_values(spec.objectives[0])
    )
    best = pareto.best(front, modes)
    write_table(out / "trials.parquet", pa.Table.from_pandas(trials, preserve_index=False))
    write_text(out / "pareto.csv", front.to_csv(index=False, lineterminator="\n"))
    for form in pareto.FORMS:
        pareto.save(out / f"pareto.{form}", whole, front, best["trial"], modes, form)
    chosen = json.loads(json.dumps(content)) | {"name": f"{spec.name}-best"}
    # As the trial was trained: the number of workers enters the weights.
    search_file.assign(
        chosen,
        {key: json.loads(best[key]) for key in spec.space}
        | {"resources.training_workers": WORKERS},
    )
    resolved = study_file.as_dict(study_file.resolve(chosen, "the best trial", directory))
    reached = ", ".join(f"{objective} {100 * best[objective]:.1f} %" for objective in modes)
    comment = (
        f"# Trial {best['trial']} of the search {spec.name}: {reached} on the validation split.\n"
    )
    write_text(out / "best.yaml", comment + yaml.safe_dump(resolved, sort_keys=False))
    print(
        f"tune {spec.name}: {len(trials)} trials, {len(front)} of them on the Pareto front; the best, {best['trial']}: {reached} "
        f"(validation split, success of {spec.tuples} tuples)"
    )
    print(f"tune {spec.name}: advrec study {out / 'best.yaml'}")
