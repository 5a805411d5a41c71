"""`advrec catalog`, `recommend` and `attack` on a finished evaluation: what they print and draw."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands import advrec

ATTACK = {"--model": "unsecured", "--attack": "pgd-8", "--epsilon": "0.05", "--article": "5"}


def test_the_catalog_and_the_map_of_an_embedded_model_are_drawn(evaluated):
    shown = advrec("catalog", "tiny.yaml", cwd=evaluated)
    assert shown.returncode == 0, shown.stderr
    assert "132 with texture labels" in shown.stdout
    assert "textures: " in shown.stdout
    sheet, embedded = (Path(evaluated, line) for line in shown.stdout.splitlines()[-2:])
    assert (sheet.name, embedded.name) == ("catalog.png", "map-unsecured.png")
    with Image.open(embedded) as picture:
        shown_pixels = np.asarray(picture)
    assert (shown_pixels < 250).any(axis=2).mean() > 0.02, "the map shows no article"


def test_recommend_and_attack_print_and_draw(evaluated):
    command = ("recommend", "tiny.yaml", "--model", "unsecured", "-k", "4")
    lists = advrec(*command, "3", cwd=evaluated)
    assert lists.returncode == 0, lists.stderr
    assert len(lists.stdout.splitlines()) == 7
    assert Path(evaluated, lists.stdout.splitlines()[-1]).stat().st_size > 1000
    name = lists.stdout.splitlines()[1].split()[1]
    by_name = advrec(*command, name, cwd=evaluated)
    # HNSW, built by several threads, may order equal ones anyhow
    assert by_name.stdout.splitlines()[:2] == lists.stdout.splitlines()[:2]
    one = attack(evaluated, **{"--target": name})
    assert one.returncode == 0, one.stderr
    assert "rank" in one.stdout
    assert Path(evaluated, one.stdout.splitlines()[-1]).stat().st_size > 1000


@pytest.mark.parametrize(
    "wrong",
    [{"--target": "9999"}, {"--epsilon": "2"}, {"--model": "nobody"}, {"--attack": "pdg-8"}],
    ids=str,
)
def test_an_attack_that_cannot_be_made_is_refused_in_one_sentence(evaluated, wrong):
    refused = attack(evaluated, **{"--target": "3"} | wrong)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1


def attack(place, **changes):
    options = [word for option in (ATTACK | changes).items() for word in option]
    return advrec("attack", "tiny.yaml", *options, cwd=place)
