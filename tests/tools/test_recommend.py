"""`advrec recommend` in a catalog full of equal articles: exact lists, and what HNSW misses."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from advrec.catalog.dataset import Catalog
from advrec.run.directory import Run
from advrec.run.tables import read_embeddings
from advrec.tools.recommend import missing
from tests.commands import advrec
from tests.conftest import STUDY

COPIES, OTHERS = 300, 120


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """An evaluated run: images of one colour and noise each, and copies of the first."""
    place = tmp_path_factory.mktemp("copies")
    shutil.copytree(Path(__file__).parents[1] / "shop", place / "shop")
    random = np.random.default_rng(5)
    for category in ("dress", "shoe"):
        (place / "photos" / category).mkdir(parents=True)
        for number in range(OTHERS // 2):
            noise = random.integers(-30, 31, (40, 40, 3))
            pixels = (random.integers(0, 256, 3) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(place / "photos" / category / f"{number:03}.png")
        for number in range(COPIES // 2):
            shutil.copy(
                place / "photos" / "dress" / "000.png",
                place / "photos" / category / f"copy{number:03}.png",
            )
    study = {
        "name": "copies",
        "catalog": {"source": "folder", "root": "photos", "image_size": 32, "duplicates": "keep"},
        "models": {"m": {"model": "shop.small:network"}},
        "evaluation": STUDY["evaluation"] | {"tuples": 4, "attacks": ["noise"]},
        "resources": STUDY["resources"],
    }
    (place / "copies.yaml").write_text(yaml.safe_dump(study))
    for command in ("prepare", "evaluate"):
        done = advrec(command, "copies.yaml", cwd=place)
        assert done.returncode == 0, done.stderr
    assert "that are no copies: 301 articles show an image that others show too" in done.stdout
    return place


def recommended(shop, name, k, *options):
    command = ("recommend", "copies.yaml", "--model", "m", name, "-k", k, *options)
    done = advrec(*command, cwd=shop)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^ +\d+ +(\d+) +(-?[\d.]+)  ", done.stdout, re.M)
    return done.stdout, [int(article) for article, _ in rows], [float(d) for _, d in rows]


def test_lists_are_exact_however_many_articles_are_equal(shop):
    run = Run(shop / "results" / "copies")
    names = Catalog(run).names
    vectors = read_embeddings(run, "m", 32).astype(np.float64)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for article in [place for place, name in enumerate(names) if "copy" not in name][3::40]:
        _, ids, distances = recommended(shop, names[article], 8)
        exact = np.sort(np.delete(1 - units @ units[article], article))[:8]
        assert len(set(ids)) == 8
        assert article not in ids
        assert np.allclose(distances, exact, atol=1e-4)


def test_hnsw_is_asked_for_and_says_what_it_misses(shop):
    """Its graph differs from build to build, and so does what it misses."""
    asked = 290  # more than its search keeps
    said, ids, _ = recommended(shop, "dress/001.png", asked, "--hnsw")
    _, exact, _ = recommended(shop, "dress/001.png", asked)
    assert len(exact) == asked
    if f"HNSW finds all {asked} nearest" in said:
        assert len(ids) == asked
        return
    assert f"HNSW gives {len(ids)} of {asked} articles, and " in said
    missed = re.search(r"it misses (\w+/\w+\.png)", said)[1]
    names = Catalog(Run(shop / "results" / "copies")).names
    assert names.index(missed) in set(exact) - set(ids)


def test_what_an_approximate_list_misses_is_named(catalog):
    distances = np.arange(len(catalog)) / 1000  # from the first article to all
    exact = np.array([1, 2, 3, 4])
    names = catalog.names
    said = missing(catalog, exact, np.array([1, 3, 7]), distances)
    assert said.startswith("HNSW gives 3 of 4 articles, and 2 of the 4 nearest; it misses ")
    assert said.count(",") == 2
    assert names[2] in said
    assert names[4] in said
    assert missing(catalog, exact, exact, distances) == "HNSW finds all 4 nearest"
    distances[7] = distances[4]  # as near as the last of the exact ones
    assert missing(catalog, exact, np.array([1, 2, 3, 7]), distances).startswith("HNSW finds all")
