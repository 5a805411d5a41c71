"""Looking at single articles of a run: the neighbours of one, and one attack with its pictures. In
this process, without Ray.
"""

from pathlib import Path

import numpy as np

from advrec.attacks import names, registry
from advrec.catalog.dataset import Catalog
from advrec.catalog.summary import summary
from advrec.errors import AdvrecError, ConfigError
from advrec.evaluation.block import Block, Recommender, evaluate_block
from advrec.model import checkpoint
from advrec.model.encoder import embed_all, frozen
from advrec.recommenders.hnsw import HnswIndex
from advrec.recommenders.ranks import ExactIndex, Floats
from advrec.reports.pictures import images as pictures
from advrec.run.directory import Run
from advrec.run.files import read_json
from advrec.run.tables import embedding_shards, is_embedded, read_embeddings
from advrec.spec.study import AttackSpec, Study


def show_catalog(run: Run, study: Study) -> list[Path]:
    """Print what the catalog holds, and draw a contact sheet and, of each model whose embeddings
    exist, a map; returns the pictures.
    """
    from advrec.reports.pictures import catalog as pages

    catalog = _catalog(run)
    print(f"{run.directory}: {pages.source_line(run)}")
    print("\n".join([*summary(read_json(run.preparation)), *pages.balance(catalog)]))
    if images := len(run.images_set_aside()):
        print(f"{images:,} images were set aside: {run.directory}/set_aside.json")
    paths = [pages.contact_sheet(run, catalog, study.seed)]
    for model in study.models:
        if is_embedded(run, model, len(catalog)) and len(catalog) >= 4:
            ids = pages.mapped(catalog, study.seed)
            embeddings = read_embeddings(
                run, model, checkpoint.load(run.weights(model)).dimension, ids
            )
            paths.append(pages.embedding_map(run, model, catalog, ids, embeddings, study.seed))
    for path in paths:
        print(path)
    return paths


def recommend(run: Run, study: Study, model: str, article_name: str, k: int) -> Path:
    """Print the k nearest articles of one as a shop would list them (HNSW), and draw them; returns
    the picture's path.
    """
    catalog, embeddings = _catalog(run), _embeddings(run, study, model)
    article = catalog.find(article_name)
    if not 1 <= k < len(catalog):
        raise ConfigError(f"-k is {k}: the catalog has 1..{len(catalog) - 1} other articles")
    ids, _ = HnswIndex(embeddings).top_k(np.array([article], dtype=np.int32), k)[0]
    distances = ExactIndex(embeddings).distances(embeddings[article][None])[0, ids]
    print(f"{'rank':>4}  {'article':>7}  {'distance':>8}  name")
    print(
        f"{'':>4}  {article:>7}  {'':>8}  {catalog.names[article]} ({catalog.category_names[article]})"
    )
    for rank, (other, distance) in enumerate(zip(ids, distances, strict=True), start=1):
        print(
            f"{rank:>4}  {other:>7}  {distance:>8.4f}  {catalog.names[other]} ({catalog.category_names[other]})"
        )
    pixels = catalog.pixels(ids)
    neighbours = [
        (image, f"{other} {catalog.category_names[other]}", float(distance))
        for image, other, distance in zip(pixels, ids, distances, strict=True)
    ]
    path = run.directory / "pictures" / f"recommend-{model}-{article}.png"
    query = (catalog.pixels([article])[0], f"{article} {catalog.category_names[article]}")
    pictures.neighbour_picture(path, query, neighbours)
    print(path)
    return path


def attack_one(
    run: Run,
    study: Study,
    model: str,
    attack: str,
    epsilon: float,
    target_name: str,
    article_name: str,
) -> Path:
    """Attack one tuple as the evaluation would, print the outcome, draw it; returns the picture's
    path.
    """
    if not 0.0 <= epsilon <= 1.0:
        raise ConfigError(f"--epsilon is {epsilon}: a budget lies between 0 and 1")
    entries = (entry for entry in study.evaluation.attacks if entry.name == attack)
    spec = next(entries, None)
    if spec is None:
        names.check(attack)
        spec = AttackSpec.named(attack)
    method = registry.build(spec.attack, restarts=spec.restarts)
    catalog, embeddings = _catalog(run), _embeddings(run, study, model)
    target, article = catalog.find(target_name), catalog.find(article_name)
    if target == article:
        raise ConfigError("--target and --article are the same article; name two")
    block = Block(
        tuple_ids=np.zeros(1, dtype=np.int32),
        target_ids=np.array([target], dtype=np.int32),
        attack_ids=np.array([article], dtype=np.int32),
        pixels=catalog.pixels([article]),
        epsilons=(epsilon,),
        batch=1,
        examples=1,
        label=attack,
        seed=study.seed,
        stop=spec.stop,
    )
    network = frozen(checkpoint.load(run.weights(model)))
    outcomes = evaluate_block(Recommender(network.embed, ExactIndex(embeddings)), method, block)
    row, example = outcomes.rows.to_pylist()[0], outcomes.examples.to_pylist()[0]
    adversarial = np.frombuffer(example["pixels"], dtype="<f4").reshape(
        example["height"], example["width"], 3
    )
    lines = pictures.attack_lines(
        (row["clean_distance"], row["adversarial_distance"]),
        (row["clean_rank"], row["adversarial_rank"]),
        f"{attack} on {model}, budget epsilon {epsilon:g}, largest change of a pixel {row['linf']:.4f}",
    )
    print("\n".join(lines))
    path = (
        run.directory / "pictures" / f"attack-{model}-{attack}-{epsilon:g}-{target}-{article}.png"
    )
    pictures.attack_picture(
        path, catalog.pixels([article])[0], adversarial, catalog.pixels([target])[0], lines
    )
    print(path)
    return path


def _catalog(run: Run) -> Catalog:
    if not run.catalog.exists():
        raise AdvrecError(
            f"{run.directory}: the catalog is not prepared yet; run `advrec prepare` first"
        )
    if not run.images.exists():
        raise AdvrecError(
            f"{run.directory}: holds no images; a run that was imported can be reported, nothing else"
        )
    return Catalog(run)


def _embeddings(run: Run, study: Study, model: str) -> Floats:
    """Raw embeddings of the catalog: the run's, or made now where the evaluation has not been there
    yet.
    """
    if model not in study.models:
        raise ConfigError(
            f"--model {model} is not a model of the study; it has {', '.join(study.models)}"
        )
    if not run.weights(model).exists():
        raise AdvrecError(
            f"{run.directory}: the model {model} is not trained yet; run `advrec train` first"
        )
    network = checkpoint.load(run.weights(model))
    catalog = Catalog(run)
    if is_embedded(run, model, len(catalog)):
        return read_embeddings(run, model, network.dimension)
    embed = frozen(network).embed
    return np.concatenate(
        [embed_all(embed, catalog.pixels(ids)) for ids in embedding_shards(len(catalog))]
    )
