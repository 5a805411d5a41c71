"""`advrec catalog`: what the catalog of a run holds, in words and pictures."""

from pathlib import Path

from advrec.catalog import interactions
from advrec.catalog.dataset import Catalog
from advrec.catalog.summary import summary
from advrec.errors import AdvrecError
from advrec.model import checkpoint
from advrec.run import strangers
from advrec.run.directory import Run
from advrec.run.files import read_json
from advrec.run.tables import is_embedded, read_embeddings
from advrec.spec.study import Study


def show_catalog(run: Run, study: Study) -> list[Path]:
    """Print what the catalog holds, and draw a contact sheet and, of each model whose embeddings
    exist, a map; returns the pictures.

    Raises:
        AdvrecError: the run holds no catalog or no images.
    """
    from advrec.reports.pictures import catalog as pages  # seaborn takes a second to import

    catalog = open_catalog(run)
    print(f"{run.directory}: {pages.source_line(run)}")
    print("\n".join([*summary(read_json(run.preparation)), *pages.balance(catalog)]))
    if images := len(run.images_set_aside()):
        print(f"{images:,} images were set aside: {run.directory}/set_aside.json")
    if study.interactions is not None and run.interactions.exists():
        known = interactions.read(run, len(catalog))
        print(f"{study.interactions.title}: {known.summary()}")
    paths = [pages.contact_sheet(run, catalog, study.seed)]
    for model in study.encoders:
        if is_embedded(run, model, len(catalog)) and len(catalog) >= 4:
            ids = pages.mapped(catalog, study.seed)
            dimension = checkpoint.load(run.weights(model)).dimension
            embeddings = read_embeddings(run, model, dimension, ids)
            paths.append(pages.embedding_map(run, model, catalog, ids, embeddings, study.seed))
    for path in paths:
        print(path)
    return paths


def open_catalog(run: Run) -> Catalog:
    """The prepared catalog of a run.

    Raises:
        AdvrecError: there is none, it has no images, or the run holds a stranger.
    """
    strangers.refuse(run)
    run.require_catalog()
    if not run.images.exists():
        raise AdvrecError(
            f"{run.directory}: holds no images; a run that was imported can be reported, "
            f"nothing else"
        )
    return Catalog(run)
