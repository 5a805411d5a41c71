"""A bad study gets one sentence: the key's path, the allowed values and the nearest right word."""

import copy
from pathlib import Path
from typing import get_args

import pytest

from advrec.errors import ConfigError
from advrec.spec import study as study_file
from advrec.spec import yaml as strict_yaml
from advrec.spec.hybrids import HYBRID_WORDS
from advrec.spec.models import KINDS, LABELS, OwnModel

BASE = {
    "name": "demo",
    "catalog": {"source": "synthetic"},
    "models": {"unsecured": {"defense": "none"}, "at": {"defense": "at", "init": "unsecured"}},
    "evaluation": {"attacks": ["fgsm", "pgd-8"]},
}

BAD = {
    "nme=1": ["nme", "did you mean name"],
    "models.at.epsilonn=0.1": ["models.at.epsilonn", "did you mean epsilon"],
    "models.at.epsilon=-1": ["models.at.epsilon is -1", "greater than or equal to 0"],
    "models.at.defense=att": ["models.at.defense is att", "did you mean at", "none, at, cat"],
    "models.x={}": ["models.x.defense is missing"],
    "models.x={defence: at}": ["models.x.defence is not a known key; did you mean defense?"],
    "models.at={defense: at, int: unsecured}": ["models.at.int is not", "did you mean init"],
    "models.at.init=unsecure": ["models.at.init", "did you mean unsecured"],
    "models.at.init=at": ["models.at.init is at"],
    "models.a/x={defense: none}": ["a/x", "a name holds letters"],
    "models={a: {defense: none, compared: false}}": ["compared is false for every model"],
    "catalog.source=sythetic": ["catalog.source is sythetic", "did you mean synthetic"],
    "catalog.source=folder": ["needs root"],
    "catalog.root=x": ["root is not used by the synthetic source"],
    "catalog.boxes=true": ["boxes belongs to source: deepfashion, the study says synthetic"],
    "catalog={source: folder, root: x, articles: 5}": ["articles belongs to source: synthetic"],
    "catalog={source: deepfashion, root: x, manifest: y}": ["manifest belongs to source: folder"],
    "catalog={source: deepfashion, root: x, published_counts: true, annotations: fine}": [
        "are those of annotations: coarse"
    ],
    "catalog={source: folder, manifest: 'https://shop/items.csv'}": [
        "root is missing: where a manifest is a URL"
    ],
    "catalog={source: deepfashion, root: x, published_counts: true, duplicates: 2}": [
        "published_counts are those of whole images"
    ],
    "catalog.duplicates=5": ["catalog.duplicates is 5"],
    "catalog.duplicates=all": ["catalog.duplicates is 'all'", ", or keep"],
    "resources.actors=many": [
        "resources.actors is 'many': input should be a valid integer, or auto"
    ],
    "catalog.square=trim": ["catalog.square is trim", "did you mean trim-pad"],
    "models.unsecured={defense: none, weights: imagenet, width: 0.5}": [
        "ImageNet weights exist for mobilenet_v2 of width 1.0, not 0.5"
    ],
    "evaluation.epsilons=[0.1, -0.2]": ["evaluation.epsilons.1 is -0.2"],
    "evaluation.epsilons=[0.1, 1.5]": ["evaluation.epsilons.1 is 1.5", "less than or equal to 1"],
    "evaluation.epsilons=[.nan]": ["evaluation.epsilons.0", "finite"],
    "evaluation.epsilons=[0.1, 0.1]": ["epsilons lists 0.1 twice"],
    "evaluation.epsilons=[]": ["evaluation.epsilons"],
    "evaluation.attacks=[fgsm, fgsm]": ["attacks lists fgsm twice"],
    "evaluation.attacks=[{attack: fgsm, name: a/b}]": ["evaluation.attacks.0.name"],
    "evaluation.tuples=1.5": ["evaluation.tuples is 1.5"],
    "evaluation.tuples=0": ["evaluation.tuples is 0"],
    "evaluation.ranks=[0]": ["evaluation.ranks.0 is 0"],
    "evaluation.promoted=[a, a]": ["promoted lists a twice"],
    "evaluation.promoted=[]": ["evaluation: promoted names no article"],
    "evaluation.audience={targets: {}}": ["evaluation: audience.targets names no article"],
    "evaluation.audience={targets: {a: 1.0e+308, b: 1.0e+308}}": ["weights are too large"],
    "interactions={source: synthetic, purchases: 1}": ["interactions.purchases is 1", "equal to 2"],
    "resources.actors=-1": ["resources.actors is -1"],
    "seed=abc": ["seed is 'abc'"],
    "seed=true": ["seed is True"],
    "accept_set_aside=1": ["accept_set_aside is 1"],
}


@pytest.mark.parametrize("override", BAD)
def test_a_bad_study_is_refused_in_one_sentence(override):
    raw = copy.deepcopy(BASE)
    strict_yaml.override(raw, override)
    with pytest.raises(ConfigError) as error:
        study_file.parse(raw, "study.yaml")
    assert "\n" not in str(error.value)
    for part in BAD[override]:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("key", "misspelt"),
    [("evaluation", "evalution"), ("models", "model"), ("catalog", "catalogue"), ("name", "nme")],
)
def test_a_misspelt_key_is_named_before_the_one_that_is_missing_for_it(key, misspelt):
    raw = copy.deepcopy(BASE)
    raw[misspelt] = raw.pop(key)
    said = rf"^study.yaml: {misspelt} is not a known key; did you mean {key}\?"
    with pytest.raises(ConfigError, match=said):
        study_file.parse(raw, "study.yaml")
    del raw[misspelt]
    with pytest.raises(ConfigError, match=f"{key} is missing"):
        study_file.parse(raw | {"zzz": 1}, "study.yaml")


def test_defaults_are_resolved_and_paths_absolute(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\ncatalog: {source: folder, root: pics, image_size: 128}\n"
        "models: {a: {defense: none, weights: w.safetensors}}\n"
        "evaluation: {attacks: [fgsm], epsilons: [0.05, 1e-2], tuples: pairs.csv}\n"
    )
    study = study_file.load(path, ["models.a.epochs=3"])
    assert study.catalog.root == str(tmp_path / "pics")
    assert study.models["a"].width == 1.0
    assert study.models["a"].epochs == 3
    assert study.models["a"].weights == str(tmp_path / "w.safetensors")
    assert study.evaluation.epsilons == (0.01, 0.05)
    assert study.evaluation.tuples == str(tmp_path / "pairs.csv")
    assert study_file.load(path, ["catalog.image_size=64"]).models["a"].width == 1.0, (
        "as in the file of weights"
    )
    assert (
        study_file.load(path, ["catalog.image_size=64", "models.a.weights=imagenet"])
        .models["a"]
        .width
        == 1.0
    )
    assert (
        study_file.load(path, ["catalog.image_size=64", "models.a.weights=none"]).models["a"].width
        == 0.5
    )
    # as the run directory keeps it
    assert study_file.parse(study_file.as_dict(study), "again") == study


def test_a_resolved_study_reads_back_as_itself(tmp_path):
    study = study_file.parse(BASE, "base")
    assert study_file.parse(study_file.as_dict(study), "again") == study


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: 1\na: 2\n", "the key a stands twice"),
        ("a: [1\n", "is not valid YAML"),
        ("- 1\n", "is a mapping"),
        ("a: !!python/object/apply:os.system [true]\n", "is not valid YAML"),
    ],
)
def test_bad_yaml_is_refused(tmp_path, text, part):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=part):
        study_file.load(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        study_file.load(tmp_path / "none.yaml")


def test_the_hash_does_not_depend_on_the_order_of_keys():
    assert study_file.canonical_hash({"a": 1, "b": [1.5]}) == study_file.canonical_hash(
        {"b": [1.5], "a": 1}
    )
    assert study_file.canonical_hash({"a": 1}) != study_file.canonical_hash({"a": 2})


def test_roots_and_manifests_are_paths_or_urls(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\ncatalog: {source: folder}\nmodels: {a: {defense: none}}\n"
        "evaluation: {attacks: [fgsm]}\n"
    )
    for given, root, manifest in (
        ("root: pics", f"{tmp_path}/pics", None),
        ("root: 's3://shop/pics'", "s3://shop/pics", None),
        ("root: 'zip://::pics.zip'", f"zip://::{tmp_path}/pics.zip", None),
        ("root: 'zip://::https://shop/pics.zip'", "zip://::https://shop/pics.zip", None),
        ("manifest: lists/items.csv", f"{tmp_path}/lists", f"{tmp_path}/lists/items.csv"),
        (
            "manifest: 'https://shop/items.csv?token=a/b', root: 'https://shop'",
            "https://shop",
            "https://shop/items.csv?token=a/b",
        ),
        ("manifest: items.csv, root: 'gs://shop'", "gs://shop", f"{tmp_path}/items.csv"),
    ):
        catalog = study_file.load(path, [f"catalog={{source: folder, {given}}}"]).catalog
        assert (catalog.root, catalog.manifest) == (root, manifest), given


def test_every_defense_has_its_name_in_the_report_and_in_messages():
    names = set(KINDS) - {"own", "joined", *HYBRID_WORDS}
    assert LABELS.keys() == names
    assert set(get_args(OwnModel.model_fields["defense"].annotation)) == names
    with pytest.raises(ConfigError) as refused:
        study_file.parse(
            {
                "name": "x",
                "catalog": {"source": "synthetic"},
                "models": {"m": {}},
                "evaluation": {"attacks": ["fgsm"]},
            },
            "x",
        )
    assert all(name in str(refused.value) for name in names)


@pytest.mark.parametrize(
    "study", sorted(Path("jobs/studies").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_studies_that_ship_are_valid(study):
    study_file.load(study)


@pytest.mark.parametrize(
    ("size", "model", "gpus", "images"),
    [
        (64, "mobilenet_v2", "auto", 96),  # as the default of before
        (224, "mobilenet_v2", "auto", 16),
        (224, "resnet18", 0.0, 8),
        (512, "mobilenet_v2", "auto", 8),
        (64, "resnet18", 0.5, 512),
        (224, "mobilenet_v2", 1.0, 128),
    ],
)
def test_the_batch_follows_from_image_size_backbone_and_device(size, model, gpus, images):
    raw = {
        "name": "x",
        "catalog": {"source": "synthetic", "image_size": size},
        "models": {"m": {"defense": "none", "backbone": model}},
        "evaluation": {"attacks": ["fgsm"]},
        "resources": {"gpus_per_actor": gpus},
    }
    said = copy.deepcopy(raw)
    said["evaluation"]["batch"] = "auto"
    for each in (raw, said):
        evaluation = study_file.resolve(each, "x", Path.cwd()).evaluation
        assert (evaluation.at_once, evaluation.says_batch) == (images, False)
    said["evaluation"]["batch"] = 7
    evaluation = study_file.resolve(said, "x", Path.cwd()).evaluation
    assert (evaluation.at_once, evaluation.says_batch) == (7, True)
    own = raw | {"models": {"m": {"model": "resnet18", "checkpoint": "w.pt"}}}
    assert study_file.resolve(own, "x", Path.cwd()).evaluation.at_once <= images
