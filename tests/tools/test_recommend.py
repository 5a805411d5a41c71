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
    asked = 290  # more than its search keeps
    said, ids, _ = recommended(shop, "dress/001.png", asked, "--hnsw")
    counted = re.search(rf"HNSW gives (\d+) of {asked} articles, and (\d+) of the {asked}", said)
    assert int(counted[1]) == len(ids) < asked
    _, exact, _ = recommended(shop, "dress/001.png", asked)
    assert len(exact) == asked
    missed = re.search(r"it misses (\w+/\w+\.png)", said)[1]
    names = Catalog(Run(shop / "results" / "copies")).names
    assert names.index(missed) in set(exact) - set(ids)
    few, ids, _ = recommended(shop, "dress/copy001.png", 3, "--hnsw")
    assert len(ids) == 3
    assert "HNSW finds all 3 nearest" in few or "HNSW gives 3 of 3" in few
