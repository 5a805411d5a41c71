"""Articles that show one image: said in preparation and report, ranked among distinct images too,
and pairs that are equal before any attack have lines of their own.
"""

import json
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from advrec.catalog.dataset import Catalog
from advrec.reports import results
from advrec.reports.tables import equal
from advrec.reports.tables.every import all_tables
from advrec.reports.tables.rows import records
from advrec.run.directory import Run
from advrec.run.tables import read_embeddings
from tests.commands import advrec
from tests.conftest import STUDY
from tests.runs import rows
from tests.shop.small import network

COPIES = 3  # articles that show each photograph of a dress
PAIRS = [
    ("dress/0-0", "shoe/0"),
    ("dress/1-1", "shoe/1"),
    ("dress/2-0", "shoe/2"),
    ("shoe/3", "dress/3-0"),
    ("dress/4-0", "shoe/worn"),
]


def photograph(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A finished run: each dress stands COPIES times in the test split, each shoe once, and the
    worn shoe is the photograph of dress 4.
    """
    place = tmp_path_factory.mktemp("equal")
    shutil.copytree(Path(__file__).parents[1] / "shop", place / "shop")
    made = {f"test/dress/{n}-{copy}": n for n in range(5) for copy in range(COPIES)}
    made |= {f"test/shoe/{n}": 50 + n for n in range(5)} | {"test/shoe/worn": 4}
    for number, split in enumerate(("train", "validation")):
        made |= {f"{split}/dress/0": 100 + number, f"{split}/shoe/0": 200 + number}
    for name, seed in made.items():
        path = place / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(seed).save(path)
    lines = [f"test/{target}.png,test/{attack}.png" for target, attack in PAIRS]
    (place / "pairs.csv").write_text("\n".join(["target_name,attack_name", *lines, ""]))
    evaluation = {"tuples": "pairs.csv", "epsilons": [0.05], "attacks": ["fgsm", "pgd-8"]}
    study = {
        "name": "equal",
        "catalog": {"source": "folder", "root": "photos", "image_size": 32, "duplicates": "keep"},
        "models": {"m": {"model": "shop.small:network"}},
        "evaluation": STUDY["evaluation"] | evaluation | {"examples": len(PAIRS), "ranks": [1, 2]},
        "resources": STUDY["resources"],
    }
    (place / "equal.yaml").write_text(yaml.safe_dump(study))
    blank = dict.fromkeys(("wide-light", "wide-dark", "narrow-light", "narrow-dark"), b"<svg/>")
    for command in ("prepare", "evaluate", "report"):
        with mock.patch("advrec.reports.report._draw", return_value=blank):  # charts take long
            done = advrec(command, "equal.yaml", cwd=place)
        assert done.returncode == 0, done.stderr
        (place / command).write_text(done.stdout)
    return place


@pytest.fixture(scope="module")
def read(shop):
    return results.read(Run(shop / "results" / "equal"))


def test_preparation_and_report_say_where_success_begins(shop, read):
    told = (shop / "prepare").read_text()
    assert "16 of 21 test articles have equal ones" in told
    assert "possible at rank 3 to 4 (median 3); duplicates: 0 keeps one of each" in told
    assert equal.first_ranks(read).first_rank.tolist() == [3, 3, 3, 1, 1]
    assert equal.first_ranks(read).copies.tolist() == [2, 2, 2, 0, 2]
    page = (shop / "results" / "equal" / "report" / "index.html").read_text()
    for text in (page, (shop / "report").read_text()):
        assert "4 of 5 targets have equal articles" in text
        assert "at rank 1 to 3 (median 3), and rank 2 is out of reach on 3 of 5 tuples" in text


def test_ranks_among_distinct_images_are_those_of_a_naive_loop(shop):
    run = Run(shop / "results" / "equal")
    catalog, table = Catalog(run), rows(run.directory)
    vectors = read_embeddings(run, "m", 32).astype(np.float64)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    own_network = network()
    shown = catalog.pixels(range(len(catalog)))
    examples = pd.concat(pd.read_parquet(file) for file in sorted(run.examples.rglob("*.parquet")))
    assert len(examples) == len(table) == 2 * len(PAIRS)
    for row, kept in zip(
        table.sort_values(["attack", "tuple_id"]).to_dict("records"),
        examples.to_dict("records"),
        strict=True,
    ):
        target, attack = row["target_id"], row["attack_id"]
        image = np.frombuffer(kept["pixels"], dtype="<f4").reshape(32, 32, 3)
        with torch.inference_mode():
            vector = own_network(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])[0]
        for name, own in (("clean", vectors[attack]), ("adversarial", vector.double().numpy())):
            distance = 1 - units[target] @ own / np.linalg.norm(own)
            nearer = [
                shown[j].tobytes()
                for j in range(len(catalog))
                if j not in (target, attack) and 1 - units[target] @ units[j] < distance - 1e-6
            ]
            assert row[f"{name}_rank"] == 1 + len(nearer)
            distinct = {image for image in nearer if image != shown[target].tobytes()}
            assert row[f"{name}_distinct_rank"] == 1 + len(distinct)


def test_pairs_that_are_equal_already_have_lines_of_their_own(shop, read):
    last = rows(shop / "results" / "equal").query("tuple_id == 4").set_index("attack")
    assert (last.clean_rank == 1).all()
    assert (last.clean_distance < 1e-6).all()
    tables = all_tables(read)
    lines = {
        (row["attack"], row["rank"], row["pairs"]): (row["n"], row["successes"])
        for row in records(tables["equal_pairs"])
    }
    success = {
        (row["attack"], row["rank"]): (row["n"], row["successes"])
        for row in records(tables["success"])
    }
    for (attack, rank), (n, successes) in success.items():
        equal_pair, others = lines[attack, rank, "equal"], lines[attack, rank, "different"]
        assert (n, successes) == (equal_pair[0] + others[0], equal_pair[1] + others[1])
        assert equal_pair == (1, int(last.adversarial_rank[attack] <= rank))
    page = (shop / "results" / "equal" / "report" / "index.html").read_text()
    assert "Pairs that are equal before any attack" in page
    assert "Among distinct images: success at rank 2" in page


def test_a_catalog_of_distinct_images_has_rows_as_ever(evaluated):
    run = Run(evaluated / "results" / "tiny")
    assert not [name for name in rows(run.directory).columns if "distinct" in name]
    assert "equal_images" in json.loads(run.preparation.read_text())
    tables = all_tables(results.read(run))
    assert tables["distinct"].empty
    assert tables["equal_pairs"].empty
    assert not equal.sentence(results.read(run))
