"""A toy source, added as ARCHITECTURE.md says: a module and one registration."""

import numpy as np
import pytest
import yaml
from PIL import Image

import advrec
from advrec.catalog.dataset import Catalog
from advrec.errors import ConfigError
from advrec.run.directory import Run
from advrec.spec import study as study_file
from advrec.spec.catalog import SOURCES, Source


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(SOURCES, "toy", Source("tests.catalog.toy_source"))


def write(directory, **catalog):
    study = {
        "name": "toys",
        "catalog": {"source": "toy", "root": "pictures", "image_size": 32, **catalog},
        "models": {"unsecured": {"defense": "none"}},
        "evaluation": {"attacks": ["fgsm"]},
        "resources": {"actors": 0},
    }
    path = directory / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def test_a_study_prepares_the_catalog_of_a_new_source(toy, tmp_path):
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    colours = {}
    for n in range(20):
        name = f"{'bear' if n % 2 else 'car'}-{n}.png"
        colours[name] = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(colours[name]).save(tmp_path / "pictures" / name)
    study = study_file.load(write(tmp_path))
    assert advrec.run_study(study, tmp_path / "run", stages=("prepare",)) == 0
    catalog = Catalog(Run(tmp_path / "run"))
    assert sorted(catalog.names) == sorted(colours)
    assert catalog.categories == ("bear", "car")
    for name, pixels in zip(catalog.names, catalog.pixels(range(20)), strict=True):
        assert (pixels == colours[name]).all()
        assert catalog.category_names[catalog.names.index(name)] == name.partition("-")[0]


def test_its_name_is_an_allowed_word_and_keys_of_other_sources_are_refused(toy, tmp_path):
    with pytest.raises(ConfigError, match=r"did you mean toy\? \(allowed: synthetic, .*, toy\)"):
        study_file.load(write(tmp_path, source="toyz"))
    with pytest.raises(
        ConfigError, match="boxes belongs to source: deepfashion, the study says toy"
    ):
        study_file.load(write(tmp_path, boxes=True))
