"""A run directory as `advrec study` leaves it, made of invented outcomes in a moment."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advrec.catalog.pixels import encode_png
from advrec.evaluation import probes as examination
from advrec.reports import results
from advrec.reports.report import write_report
from advrec.run import schema
from advrec.run.cells import Cell
from advrec.run.directory import Run
from advrec.run.files import write_json, write_table, write_text
from advrec.spec import study as study_file
from advrec.spec.attacks import AttackSpec

SIDE = 32
NASTY = "<script>alert(1)</script>&\"'.jpg"
STUDY = """
name: small
seed: 7
catalog: {{source: synthetic, image_size: {side}, articles: {articles}}}
models:
  unsecured: {{defense: none, width: 0.5}}
  at: {{defense: at, width: 0.5, init: unsecured}}
  cat: {{defense: cat, width: 0.5, init: unsecured}}
evaluation:
  tuples: {tuples}
  block: {block}
  epsilons: [{epsilons}]
  ranks: [1, 3, 10, 100]
  attacks: [{attacks}]
  examples: 2
  delivery: [{delivery}]
  checks: {checks}
"""
DEFENSE_STRENGTH = {"unsecured": 0.0, "at": 6.0, "cat": 3.5}
ATTACK_STRENGTH = {
    "fgsm": -2.0,
    "pgd-8": 1.5,
    "pgd-32": 3.5,
    "pgd-128": 4.5,
    "cw-50": 5.0,
    "apgd-20": 4.0,
    "auto": 6.0,
    "auto-1": 6.0,
    "noise": -6.0,
    "rank-40": -2.0,
    "rank-400": 0.5,
    "square-300": 2.0,
}
MEMBERS = ("pgd-momentum-25", "apgd-l2-50", "pgd-momentum-100")
PROBE_STRENGTH = {
    "apgd-50": 4.0,
    "apgd-100": 4.0,
    "square-500": -1.0,
    "mifgsm-100": 30.0,
    "fgsm": -2.0,
    "noise": -6.0,
}
HEALTH = {
    "n": 64,
    "repeat_difference": 0.0,
    "alone_difference": 1e-13,
    "zero_gradients": 0,
    "zero_values": 0.002,
    "embeddings": 30,
    "dimension": 1280,
    "mean_cosine": 0.51,
    "effective_rank": 27.5,
}


class Maker:
    """Builds runs below a directory; a run's outcomes depend on its arguments alone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(
        self,
        name: str = "run",
        *,
        attacks: Sequence[str | Mapping[str, Any]] = ("fgsm", "pgd-8"),
        epsilons: Sequence[float] = (0.01, 0.05),
        tuples: int = 20,
        block: int = 8,
        articles: int = 30,
        skip: Sequence[tuple[str, str, int]] = (),
        names: Mapping[int, str] | None = None,
        pictures: Sequence[np.ndarray] | None = None,
        delivery: Sequence[str] = ("float",),
        checks: int = 0,
        trained: bool = False,
    ) -> Run:
        """`skip` names blocks (model, attack, block) to leave out; `names` renames articles; every
        check passes; `trained`: with histories, embeddings and lists too.
        """
        run = Run(self._directory / name)
        side = SIDE if pictures is None else len(pictures[0])
        shape = {"side": side, "articles": articles, "tuples": tuples, "block": block}
        entries = [attack if isinstance(attack, str) else json.dumps(attack) for attack in attacks]
        listed = {
            "epsilons": ", ".join(map(str, epsilons)),
            "attacks": ", ".join(entries),
            "delivery": ", ".join(delivery),
        }
        write_text(run.study, STUDY.format(**shape, **listed, checks=checks))
        study = study_file.read(run.study)
        stored = [each for each in delivery if each != "float"]
        rng = np.random.default_rng(0)
        write_catalog(run, articles, names or {}, rng, side, pictures)
        pairs = write_tuples(run, tuples, articles, rng)
        for model in DEFENSE_STRENGTH:
            write_json(run.model(model) / "metrics.json", metrics(model))
            write_json(run.model(model) / "index.json", INDEX)
            if trained:
                write_training(run, model, articles)
            for spec in study.evaluation.attacks:
                attack = spec.name
                rows = outcomes(model, spec.attack, epsilons, pairs, articles, rng) | several(
                    spec, tuples, len(epsilons), rng
                )
                if checks:
                    as_strong_as_the_checks(rows, study, model, pairs, articles)
                rows |= as_delivered(rows, stored, articles)
                for number in range(-(-tuples // block)):
                    inside = rows["tuple_id"] // block == number
                    if (model, attack, number) not in skip:
                        part = {key: values[inside] for key, values in rows.items()}
                        write_table(
                            run.block(model, attack, number),
                            schema.table(schema.outcomes(stored), part),
                        )
                if (model, attack, 0) not in skip:
                    write_examples(run, model, attack, epsilons, pairs, rng, side, pictures)
        if checks:
            write_checks(run, study, pairs, articles)
        write_json(
            run.provenance,
            {"python": "3.11", "packages": {"torch": "2.14", "nmslib": None}, "cores": 2},
        )
        return run


@pytest.fixture
def make_run(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A reported run of 3 models x 2 attacks x 2 budgets x 20 tuples, to read only; its articles
    have hostile names.
    """
    make = Maker(tmp_path_factory.mktemp("finished"))
    run = make(
        names=dict.fromkeys(range(30), NASTY),
        delivery=("float", "png", "jpeg-90"),
        checks=12,
        trained=True,
    )
    write_report(results.read(run))
    return run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without figures, where a test asks for something else: drawing them takes most of the
    time.
    """
    blank = {
        variant: b"<svg/>" for variant in ("wide-light", "wide-dark", "narrow-light", "narrow-dark")
    }
    monkeypatch.setattr("advrec.reports.report._draw", lambda run, name, chart: blank)


INDEX = {
    "recall_at_10": 0.987,
    "queries": 300,
    "build_s": 1.2,
    "m": 16,
    "ef_construction": 200,
    "ef_search": 200,
}


def metrics(model: str) -> dict[str, Any]:
    loss = {"unsecured": 0.0, "at": 0.12, "cat": 0.06}[model]
    return {
        "clean_accuracy": 0.68 - loss,
        "adversarial_accuracy": 0.01 + 4 * loss,
        "top5_accuracy": 0.93 - loss / 2,
        "adversarial_top5_accuracy": 0.2 + 4 * loss,
        "texture_top1_precision": 0.43 - loss / 3,
        "adversarial_texture_top1_precision": None,
        "n": 300,
        "n_textures": 200,
    }


def write_catalog(
    run: Run,
    articles: int,
    names: Mapping[int, str],
    rng: np.random.Generator,
    side: int,
    pictures: Any,
) -> None:
    images = [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(articles)]
    images = (
        images
        if pictures is None
        else [pictures[article % len(pictures)] for article in range(articles)]
    )
    columns = {
        "article_id": range(articles),
        "name": [names.get(article, f"img/{article:04d}.jpg") for article in range(articles)],
        "category": [("dress", "tee")[article % 2] for article in range(articles)],
        "textures": [["striped"]] * articles,
        "split": ["test"] * articles,
        "sha256": [f"{article:064x}" for article in range(articles)],
    }
    write_table(run.catalog, schema.table(schema.CATALOG, columns))
    pngs = {"article_id": range(articles), "png": [encode_png(image) for image in images]}
    write_table(run.images / "part-000000.parquet", schema.table(schema.IMAGES, pngs))
    steps = [
        {"step": "images listed", "articles": articles + 5},
        {"step": "after duplicates", "articles": articles},
    ]
    splits = {"train": 0, "validation": 0, "test": articles}
    labels = {"categories": ["dress", "tee"], "textures": ["striped"], "catalog_sha256": "0" * 64}
    write_json(run.preparation, {"source": "synthetic", "steps": steps, "splits": splits, **labels})


def write_training(run: Run, model: str, articles: int) -> None:
    """Two epochs, an embedding an article, and the lists that follow from these."""
    columns: dict[str, Any] = {
        "epoch": [1, 2],
        "attack_steps": [0, 8],
        "learning_rate": [0.1, 0.1],
        "seconds": [60.0, 30.5],
    }
    columns |= {
        "train_loss": [2.0, 1.0],
        "validation_clean_accuracy": [0.5, 0.7],
        "validation_adversarial_accuracy": [0.1, 0.3],
    }
    write_table(run.history(model), schema.table(schema.HISTORY, columns))
    vectors = np.random.default_rng(len(model)).standard_normal((articles, 8)).astype(np.float32)
    columns = {"article_id": range(articles), "embedding": list(vectors)}
    write_table(run.embedding_shard(model, 0), schema.table(schema.embeddings(8), columns))
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    order = [
        [other for other in np.argsort(-units @ unit, kind="stable") if other != place][:10]
        for place, unit in enumerate(units)
    ]
    write_table(
        run.lists(model),
        schema.table(schema.LISTS, {"article_id": range(articles), "neighbours": order}),
    )


def write_tuples(run: Run, tuples: int, articles: int, rng: np.random.Generator) -> np.ndarray:
    pairs = np.stack(
        [
            2 * rng.integers(0, articles // 2, tuples),
            1 + 2 * rng.integers(0, articles // 2, tuples),
        ],
        axis=1,
    )
    columns = {
        "tuple_id": range(tuples),
        "target_id": pairs[:, 0],
        "attack_id": pairs[:, 1],
        "split": ["test"] * tuples,
    }
    write_table(run.tuples, schema.table(schema.TUPLES, columns))
    return pairs


def outcomes(
    model: str,
    attack: str,
    epsilons: Sequence[float],
    pairs: np.ndarray,
    articles: int,
    rng: np.random.Generator,
    luck: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """One row a (tuple, epsilon): the stronger the attack and the larger the budget, the better the
    rank.
    """
    n, m = len(pairs), len(epsilons)
    epsilon = np.tile(np.asarray(epsilons), n)
    strength = (ATTACK_STRENGTH | PROBE_STRENGTH)[attack]
    with np.errstate(divide="ignore"):  # no budget, no force
        force = strength + 1.5 * np.log10(epsilon / 0.01) - DEFENSE_STRENGTH[model]
    force += rng.normal(0, 1.5, n * m) if luck is None else luck
    # no attack, no change
    clean_rank = np.repeat(np.random.default_rng(1).integers(2, articles - 1, n), m)
    share = 1 / (1 + np.exp(2 * force))
    overshoot = 0.0025 if attack == "cw-50" else 0.0
    steps = int(attack.split("-")[1]) if "-" in attack else 1
    return {
        "tuple_id": np.repeat(np.arange(n), m),
        "target_id": np.repeat(pairs[:, 0], m),
        "attack_id": np.repeat(pairs[:, 1], m),
        "epsilon": epsilon,
        "clean_distance": (
            far := np.repeat(np.random.default_rng(2).uniform(0.4, 0.8, n), m)
        ).astype(np.float32),
        "adversarial_distance": (far * share + 0.004).astype(np.float32),
        "clean_rank": clean_rank,
        "adversarial_rank": np.maximum(1, np.rint(clean_rank * share)).astype(np.int32),
        "linf": epsilon.astype(np.float32),
        "l2": (epsilon * 60).astype(np.float32),
        "raw_linf": (epsilon + overshoot).astype(np.float32),
        "gradient_steps": np.full(n * m, steps, dtype=np.int32),
        "forward_passes": np.full(n * m, steps + 2, dtype=np.int32),
        "seconds": rng.uniform(0.001, 0.002, n * m).astype(np.float32) * (steps + 2),
        "batch": np.full(n * m, 96, dtype=np.int32),
        "winner": np.full(n * m, attack, dtype=object),
        "inherited": np.zeros(n * m, dtype=bool),
    }


def several(
    spec: AttackSpec, tuples: int, budgets: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Who made the images of an attack that is made of several, and which a smaller budget had
    solved.
    """
    changed = {}
    if spec.attack.startswith("auto") or spec.restarts:
        again = [f"{spec.attack} restart {number + 1}" for number in range(spec.restarts)]
        members = MEMBERS if spec.attack.startswith("auto") else [spec.attack, *again]
        changed["winner"] = rng.choice(np.array(members, dtype=object), tuples * budgets)
    if spec.nested:
        changed["inherited"] = (rng.random((tuples, budgets)) < 0.4).ravel() & (
            np.arange(tuples * budgets) % budgets > 0
        )
    return changed


def as_delivered(
    rows: Mapping[str, np.ndarray], deliveries: Sequence[str], articles: int
) -> dict[str, np.ndarray]:
    """Storing costs ranks, the later deliveries more of them."""
    made = {}
    for place, delivery in enumerate(deliveries, start=1):
        distance, rank = schema.delivered(delivery)
        made[schema.suffixed("clean_rank", delivery)] = (
            np.minimum(rows["clean_rank"] + 2 * place - 3, articles).clip(1).astype(np.int32)
        )
        made[distance] = rows["adversarial_distance"] + np.float32(0.01 * place)
        made[rank] = np.minimum(
            rows["adversarial_rank"] + place * (rows["tuple_id"] % 4), articles
        ).astype(np.int32)
    return made


def write_checks(run: Run, study: study_file.Study, pairs: np.ndarray, articles: int) -> None:
    """What every attack of the checks reaches on the same tuples: more steps, larger budgets and
    gradients never do worse.
    """
    size = study.evaluation.block
    for cell in examination.cells(study):
        rows = probed(cell, pairs, articles)
        for number in range(-(-cell.tuples(len(pairs)) // size)):
            inside = rows["tuple_id"] // size == number
            part = {key: values[inside] for key, values in rows.items()}
            write_table(
                run.block(cell.model, cell.attack.name, number, cell.part),
                schema.table(schema.OUTCOMES, part),
            )
    for model in study.models:
        write_json(run.health(model), HEALTH)


def probed(cell: Cell, pairs: np.ndarray, articles: int) -> dict[str, Any]:
    """Rows of one attack of the checks."""
    chosen = pairs[: cell.tuples(len(pairs))]
    luck = np.repeat(np.random.default_rng(5).normal(0, 1.5, len(chosen)), len(cell.epsilons))
    rows = outcomes(
        cell.model,
        cell.attack.attack,
        cell.epsilons,
        chosen,
        articles,
        np.random.default_rng(5),
        luck,
    )
    rows["adversarial_distance"] = np.where(
        rows["epsilon"] == 0, rows["clean_distance"], rows["adversarial_distance"]
    )
    return rows


def as_strong_as_the_checks(
    rows: dict[str, Any], study: study_file.Study, model: str, pairs: np.ndarray, articles: int
) -> None:
    """The study's attacks reach what the checks' longest one reaches, where that was tried."""
    cell = next(
        c
        for c in examination.cells(study)
        if (c.model, c.attack.name) == (model, examination.LONGER)
    )
    probe = probed(cell, pairs, articles)
    there = (rows["epsilon"] == cell.epsilons[0]) & (rows["tuple_id"] < cell.tuples(len(pairs)))
    rows["adversarial_rank"][there] = np.minimum(
        rows["adversarial_rank"][there], probe["adversarial_rank"]
    )


def write_examples(
    run: Run,
    model: str,
    attack: str,
    epsilons: Sequence[float],
    pairs: np.ndarray,
    rng: np.random.Generator,
    side: int,
    pictures: Any,
) -> None:
    ids = [
        (tuple_id, epsilon)
        for tuple_id in range(4 if pictures is not None else 2)
        for epsilon in epsilons
    ]
    images = []
    for tuple_id, epsilon in ids:
        clean = (
            rng.random((side, side, 3))
            if pictures is None
            else pictures[pairs[tuple_id, 1] % len(pictures)] / 255.0
        )
        change = rng.uniform(-epsilon, epsilon, clean.shape)
        images.append(np.clip(clean + change, 0, 1).astype("<f4").tobytes())
    columns = {
        "tuple_id": [tuple_id for tuple_id, _ in ids],
        "target_id": [pairs[tuple_id, 0] for tuple_id, _ in ids],
        "attack_id": [pairs[tuple_id, 1] for tuple_id, _ in ids],
        "epsilon": [epsilon for _, epsilon in ids],
        "height": [side] * len(ids),
        "width": [side] * len(ids),
        "pixels": images,
    }
    write_table(run.example_block(model, attack, 0), schema.table(schema.EXAMPLES, columns))
