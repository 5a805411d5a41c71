"""A search on Ray Tune: one process a core or GPU, for one trial after another, so that no trial
waits for another's workers.
"""

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator, SearchAlgorithm, Searcher

from advrec.distributed.session import nodes
from advrec.errors import AdvrecError
from advrec.run.directory import Run
from advrec.run.progress import Progress
from advrec.search.trial import MEASURED, run_trial, trial_study
from advrec.spec import study as study_file
from advrec.spec.search import MODES, Domain, TuneSpec
from advrec.training.state import Epoch

# Ctrl-C is the command line's: Ray Tune would take it for the search's end
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # a table of its own beside our lines
# seconds between what Ray Tune keeps of a search
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")
ATTEMPTS = 2  # of a trial whose process died
FIRST_STOP = 3  # asha stops no trial before so many epochs


def search(
    spec: TuneSpec, base: Run, content: dict[str, Any], directory: Path, out: Path
) -> list[dict[str, Any]]:
    """Run the trials that are not done yet; each leaves its state, and what it measured, below
    out/trials.

    Args:
        base: holds the catalog, and the models that the searched one starts from.
        content: of the study file, whose paths are relative to `directory`.

    Returns:
        What each trial that did not fail measured, its place (trial) and its values, by key, as
        JSON.

    Raises:
        AdvrecError: Ray Tune cannot go on.
    """
    gpus = sum(node.get("GPU", 0) for node in nodes())
    resources = {"cpu": 1, "gpu": 1} if gpus else {"cpu": 1}
    trainable = tune.with_resources(_trainable(spec, base, content, directory, out), resources)
    kept = out / ".tune"
    with _shown(spec, out):
        try:
            if any(kept.glob("search/experiment_state-*.json")):
                tuner = tune.Tuner.restore(
                    str(kept / "search"), trainable, resume_errored=True, param_space=_space(spec)
                )
            else:  # killed before it kept anything, it begins anew
                shutil.rmtree(kept, ignore_errors=True)
                tuner = _new(spec, trainable, kept)
            results = tuner.fit()
        except (ray.exceptions.RayError, ray.tune.TuneError) as error:
            raise AdvrecError(
                f"the search failed ({error}); the same command goes on from there"
            ) from error
    if results.num_errors == len(results):
        reason = str(results.errors[0]).strip().splitlines()[-1] if results.errors else "none began"
        raise AdvrecError(f"no trial succeeded: {reason}")
    return [_row(spec, result) for result in results if result.error is None]


def _new(spec: TuneSpec, trainable: Any, kept: Path) -> tune.Tuner:
    grids = any(domain.grid is not None for domain in spec.space.values())
    one = (
        {"metric": spec.objectives[0], "mode": MODES[spec.objectives[0]]}
        if len(spec.objectives) == 1
        else {}
    )
    return tune.Tuner(
        trainable,
        param_space=_space(spec),
        tune_config=tune.TuneConfig(
            num_samples=1 if grids else spec.trials,
            search_alg=_searcher(spec),
            reuse_actors=True,
            scheduler=_scheduler(spec),
            max_concurrent_trials=None if spec.concurrency == "auto" else spec.concurrency,
            **one,
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=str(kept),
            failure_config=tune.FailureConfig(max_failures=ATTEMPTS - 1),
            verbose=0,
        ),
    )


def _trainable(
    spec: TuneSpec, base: Run, content: dict[str, Any], directory: Path, out: Path
) -> Callable[[dict[str, Any]], None]:
    def trial(sampled: dict[str, Any]) -> None:
        values = {key: _value(spec.space[key], value) for key, value in sampled.items()}
        # Named by its values: what Ray Tune forgets when it is killed is found again.
        place = out / "trials" / _place(values)

        def on_epoch(epoch: Epoch) -> None:
            tune.report({"clean_accuracy": epoch.validation_clean_accuracy})

        study = trial_study(content, directory, values)
        tune.report(
            run_trial(
                spec,
                study,
                base,
                place,
                on_epoch if spec.scheduler == "asha" else lambda epoch: None,
            )
        )

    return trial


@contextlib.contextmanager
def _shown(spec: TuneSpec, out: Path) -> Iterator[None]:
    """Progress by what trials leave: a callback of Ray Tune would be pickled, and a screen cannot
    be.
    """
    over = threading.Event()
    with Progress(f"tune {spec.name}", spec.num_trials, "trials", done=_count(out)) as progress:

        def follow() -> None:
            ended = False
            while not ended:
                ended = over.wait(1.0)
                if (found := _count(out)) > progress.done:
                    progress.advance(found - progress.done)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _row(spec: TuneSpec, result: Any) -> dict[str, Any]:
    values = {key: _value(spec.space[key], sampled) for key, sampled in result.config.items()}
    measured = {name: result.metrics.get(name) for name in MEASURED}
    measured |= {name: result.metrics[name] for name in spec.objectives}
    return (
        {"trial": _place(values)}
        | {key: json.dumps(value) for key, value in values.items()}
        | measured
    )


def _place(values: dict[str, Any]) -> str:
    return study_file.canonical_hash(values)[:12]


def _space(spec: TuneSpec) -> dict[str, Any]:
    return {key: _domain(domain) for key, domain in spec.space.items()}


def _domain(domain: Domain) -> Any:
    if domain.uniform is not None:
        return tune.uniform(*domain.uniform)
    if domain.loguniform is not None:
        return tune.loguniform(*domain.loguniform)
    if domain.randint is not None:
        # Ray Tune leaves out the upper end
        return tune.randint(domain.randint[0], domain.randint[1] + 1)
    if domain.grid is not None:
        return tune.grid_search([json.dumps(value) for value in domain.grid])
    return tune.choice([json.dumps(value) for value in domain.choice or ()])


def _value(domain: Domain, sampled: Any) -> Any:
    """The value that a searcher sampled. Lists are JSON there: some searchers take nothing but
    numbers and text.
    """
    if domain.choice is not None or domain.grid is not None:
        return json.loads(sampled)
    return int(sampled) if domain.randint is not None else float(sampled)


def _searcher(spec: TuneSpec) -> SearchAlgorithm | Searcher:
    if spec.searcher == "random":
        # which bears no limit of Tune's own
        most = 0 if spec.concurrency == "auto" else spec.concurrency
        return BasicVariantGenerator(random_state=spec.seed, max_concurrent=most)
    from ray.tune.search.optuna import OptunaSearch

    with contextlib.suppress(ImportError):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
    metric, mode = list(spec.objectives), [MODES[objective] for objective in spec.objectives]
    if len(metric) == 1:
        return OptunaSearch(seed=spec.seed)
    return OptunaSearch(metric=metric, mode=mode, seed=spec.seed)


def _scheduler(spec: TuneSpec) -> TrialScheduler | None:
    return (
        ASHAScheduler(grace_period=FIRST_STOP, reduction_factor=2, max_t=10**6)
        if spec.scheduler == "asha"
        else None
    )


def _count(out: Path) -> int:
    return sum(1 for _ in out.glob("trials/*/metrics.json"))
