"""`advrec tune`: trials over a space of studies, the Pareto front of what they reach, and the best
of them as a study file.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
import pyarrow as pa
import yaml

from advrec.attacks import names
from advrec.distributed.placement import cluster_address
from advrec.errors import AdvrecError, ConfigError
from advrec.reports.pictures import pareto
from advrec.run import identity, log
from advrec.run.directory import Run
from advrec.run.files import read_json, write_json, write_table, write_text
from advrec.spec import search as search_file
from advrec.spec import study as study_file
from advrec.spec.attacks import AUTO, AUTO_1
from advrec.spec.search import MODES, Objective, TuneSpec
from advrec.spec.study import Study
from advrec.stages import photographs, study

WORKERS = 1  # of a trial


def run(file: Path, out: Path | None = None, *, address: str | None = None) -> int:
    """Run a search, or go on with one.

    Returns:
        Exit code: 0, or 3 if trials failed.

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
    if names.OWN.fullmatch(spec.attack):
        raise ConfigError(f"{file}: attack is {spec.attack}; a search takes one of the table alone")
    out = (out or Path("results") / f"tune-{spec.name}").resolve()
    home = Run(out)
    home.check_directory()
    with home.lock():
        _claim(out, spec, whole)
        _say_beforehand(spec)
        base = Run(out / "base")
        before, stages = _before(whole, spec)
        study.run_study(before, base.directory, stages=stages, address=address)
        photographs.refuse_changed(base, whole, spec.model)
        from advrec.distributed.session import session  # before what imports ray
        from advrec.distributed.tune import search
        from advrec.search.trial import check

        check(spec, whole, base)
        with log.kept(home.log), session(address):
            photographs.prepared(
                base, whole, spec.model, lambda: cluster_address(address) is not None
            )
            for line in photographs.remarks(base, whole, spec.model):
                log.say(f"train {line}")
            trials = pd.DataFrame(search(spec, base, content, directory, out))
        outcome = _outcome(trials, spec, out)
        _write_tables(outcome, out)
        _draw(outcome, out)
        _write_best(outcome, out / "best.yaml", spec, content, directory)
        _say(outcome, spec, out / "best.yaml")
    return 3 if len(trials) < spec.num_trials else 0


def _before(whole: Study, spec: TuneSpec) -> tuple[Study, tuple[str, ...]]:
    """The study of the models that the searched one starts from, and its stages.

    Without any it is that of the catalog alone.
    """
    chain = _chain(whole, spec)
    content = study_file.as_dict(whole)
    content["models"] = {
        name: content["models"][name] | {"compared": True} for name in chain or [spec.model]
    }
    content["resources"]["training_workers"] = WORKERS
    # not made: the others may name other models or files
    content["evaluation"] |= {"attacks": [spec.attack], "tuples": spec.tuples}
    content["fail_if"] = []
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
    recorded = _meant(read_json(path, default=wanted), wanted["auto"])
    if recorded != wanted:
        part = next(part for part in wanted if recorded.get(part) != wanted[part])
        there = recorded.get(part, {})
        differs = sorted(key for key in wanted[part] if there.get(key) != wanted[part][key])
        raise ConfigError(
            f"{out} holds another search: its {part} differs in "
            f"{', '.join(differs) or 'some keys'}; name another --out"
        )
    write_json(path, wanted)


def _meant(recorded: dict[str, Any], edition: dict[str, int]) -> dict[str, Any]:
    """A recorded identity as versions before 0.3.0 made it: their `auto` is auto-1 now."""
    searched = recorded["search"]
    if "auto" not in recorded and searched["attack"] == AUTO:
        searched = searched | {"attack": AUTO_1}
    return {"auto": edition, **recorded, "search": searched}


class _Outcome(NamedTuple):
    """Trials of a search, one row each, and what they come to."""

    trials: pd.DataFrame
    whole: pd.DataFrame
    """Trials that were measured to their end."""
    front: pd.DataFrame
    best: Mapping[str, Any]
    modes: dict[Objective, Literal["max", "min"]]

    @property
    def reached(self) -> str:
        """Objectives of the best trial, in words."""
        return ", ".join(f"{name} {100 * self.best[name]:.1f} %" for name in self.modes)


def _outcome(trials: pd.DataFrame, spec: TuneSpec, out: Path) -> _Outcome:
    """Find the Pareto front; raises AdvrecError where no trial was measured to its end."""
    modes = {objective: MODES[objective] for objective in spec.objectives}
    whole = trials[trials["seconds"].notna()]  # asha stopped the others
    if whole.empty:
        raise AdvrecError(f"no trial was measured to its end; {out}/trials holds what they left")
    front = whole[pareto.front(whole, modes)].drop_duplicates("trial")
    front = front.sort_values(spec.objectives[0])
    return _Outcome(trials, whole, front, pareto.best(front, modes), modes)


def _write_tables(outcome: _Outcome, out: Path) -> None:
    """Write all trials and those of the front."""
    table = pa.Table.from_pandas(outcome.trials, preserve_index=False)
    write_table(out / "trials.parquet", table)
    write_text(out / "pareto.csv", outcome.front.to_csv(index=False, lineterminator="\n"))


def _draw(outcome: _Outcome, out: Path) -> None:
    _, whole, front, best, modes = outcome
    for form in pareto.FORMS:
        pareto.save(out / f"pareto.{form}", whole, front, best["trial"], modes, form)


def _write_best(
    outcome: _Outcome, path: Path, spec: TuneSpec, content: dict[str, Any], directory: Path
) -> None:
    """Write the study of the best trial, as it was trained.

    Args:
        content: of the study file, whose paths are relative to `directory`.
    """
    best = outcome.best
    values = {key: json.loads(best[key]) for key in spec.space}
    # The number of workers enters the weights.
    values["resources.training_workers"] = WORKERS
    chosen = search_file.assigned(content, values) | {"name": f"{spec.name}-best"}
    resolved = study_file.as_dict(study_file.resolve(chosen, "the best trial", directory))
    comment = (
        f"# Trial {best['trial']} of the search {spec.name}: "
        f"{outcome.reached} on the validation split.\n"
    )
    write_text(path, comment + yaml.safe_dump(resolved, sort_keys=False))


def _say_beforehand(spec: TuneSpec) -> None:
    if spec.num_combinations < spec.num_trials:
        print(
            f"tune {spec.name}: the space holds {_different(int(spec.num_combinations))} for "
            f"{spec.num_trials} trials; one that comes again is not trained again"
        )


def _say(outcome: _Outcome, spec: TuneSpec, study: Path) -> None:
    trials, different = len(outcome.trials), outcome.trials["trial"].nunique()
    of = f" of {_different(different)}" if different < trials else ""
    print(
        f"tune {spec.name}: {trials} trials{of}, {len(outcome.front)} of them on the "
        f"Pareto front; the best, {outcome.best['trial']}: {outcome.reached} "
        f"(validation split, success of {spec.tuples} tuples)"
    )
    print(f"tune {spec.name}: advrec study {study}")


def _different(combinations: int) -> str:
    """So many different combinations, in words."""
    return f"{combinations} different combination{'' if combinations == 1 else 's'}"
