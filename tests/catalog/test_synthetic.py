"""The synthetic catalog: its plan, its pictures and its annotation files, read back independently
of the writer.
"""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from imagededup.methods import PHash

from advrec.catalog.sources.garments.canvas import SIZE
from advrec.catalog.sources.garments.draw import draw
from advrec.catalog.sources.garments.shapes import CATEGORIES
from advrec.catalog.sources.garments.textures import TEXTURES
from advrec.catalog.sources.synthetic import Plan, plan, write_annotations, write_images

ARTICLES = 300


@pytest.fixture(scope="module")
def planned() -> Plan:
    return plan(ARTICLES, seed=5)


@pytest.fixture(scope="module")
def written(planned: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("catalog")
    write_images(root, planned.entries)
    write_annotations(root, planned)
    return root


def without_texture(planned: Plan) -> int:
    """Images without a texture label, copies not counted."""
    return sum(not entry.textures and entry.copy is None for entry in planned.entries)


def _files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def _rows(path: Path, header: str) -> list[str]:
    """The lines below the two header lines, which must be right."""
    count, names, *rows = path.read_text(encoding="utf-8").splitlines()
    assert names == header
    assert int(count) == len(rows)
    return rows


def test_same_seed_gives_the_same_files_in_any_chunking(tmp_path: Path) -> None:
    entries = plan(60, seed=3).entries
    assert {entry.copy for entry in entries} == {None, "exact", "near"}
    write_images(tmp_path / "whole", entries)
    again = plan(60, seed=3)
    for start in reversed(range(0, len(entries), 7)):
        write_images(tmp_path / "chunks", again.entries[start : start + 7])
    write_annotations(tmp_path / "whole", plan(60, seed=3))
    write_annotations(tmp_path / "chunks", again)
    whole = _files(tmp_path / "whole")
    assert len(whole) == len(entries) + 5
    assert whole == _files(tmp_path / "chunks")


def test_another_seed_gives_another_catalog() -> None:
    first, second = plan(50, seed=1), plan(50, seed=2)
    assert not {entry.drawing for entry in first.entries} & {
        entry.drawing for entry in second.entries
    }
    assert [entry.category for entry in first.entries] != [
        entry.category for entry in second.entries
    ]
    assert [entry.split for entry in first.entries] != [entry.split for entry in second.entries]
    assert not np.array_equal(draw("Tee", ("striped",), 1), draw("Tee", ("striped",), 2))


def test_numbers_asked_for(planned: Plan) -> None:
    usable = [entry for entry in planned.entries if entry.copy is None and entry.textures]
    assert len(usable) == ARTICLES
    assert len({entry.drawing for entry in usable}) == ARTICLES
    copies = Counter(entry.copy for entry in planned.entries)
    assert copies == {None: ARTICLES + 18, "exact": 6, "near": 6}
    assert without_texture(planned) == 18
    assert len(planned.entries) == ARTICLES + 6 + 6 + 18
    assert len({entry.name for entry in planned.entries}) == len(planned.entries)


def test_annotations_say_what_is_planned(planned: Plan, written: Path) -> None:
    rows = _rows(written / "anno/list_category_cloth.txt", "category_name  category_type")
    assert [row.split()[0] for row in rows] == list(CATEGORIES)
    assert {("Tee", "1"), ("Jeans", "2"), ("Dress", "3")} <= {tuple(row.split()) for row in rows}
    attributes = [
        row.rsplit(maxsplit=1)
        for row in _rows(written / "anno/list_attr_cloth.txt", "attribute_name  attribute_type")
    ]
    assert {name for name, kind in attributes if kind == "1"} == set(TEXTURES)
    assert {kind for _, kind in attributes} == {"1", "2", "3", "4", "5"}
    assert sum(" " in name for name, _ in attributes) >= 3

    labels = [
        row.split()
        for row in _rows(written / "anno/list_category_img.txt", "image_name  category_label")
    ]
    splits = [
        row.split()
        for row in _rows(written / "eval/list_eval_partition.txt", "image_name  evaluation_status")
    ]
    values = [
        row.split()
        for row in _rows(written / "anno/list_attr_img.txt", "image_name  attribute_labels")
    ]
    assert len(planned.entries) == len(labels) == len(splits) == len(values)
    seen: Counter[str] = Counter()
    for entry, label, split, (name, *numbers) in zip(
        planned.entries, labels, splits, values, strict=True
    ):
        assert label == [entry.name, str(CATEGORIES.index(entry.category) + 1)]
        assert split == [entry.name, entry.split]
        assert name == entry.name
        marked = [
            attribute
            for attribute, number in zip(attributes, numbers, strict=True)
            if number == "1"
        ]
        assert {text for text, kind in marked if kind == "1"} == set(entry.textures)
        assert {text for text, kind in marked if kind != "1"} == set(entry.attributes)
        textured = {
            number for (_, kind), number in zip(attributes, numbers, strict=True) if kind == "1"
        }
        assert textured <= {"1", "-1"}
        seen.update(numbers)
        seen["images without a texture"] += "1" not in textured
    assert seen["images without a texture"] == without_texture(planned)
    assert set(seen) == {"1", "-1", "0", "images without a texture"}
    assert 0.02 < seen["0"] / seen["-1"] < 0.1


def test_perceptual_hash_finds_the_planned_duplicates_and_nothing_else(
    planned: Plan, written: Path
) -> None:
    hasher = PHash(verbose=False)
    first: dict[str, int] = {}
    found = set()
    for place, entry in enumerate(planned.entries):
        code = hasher.encode_image(image_file=str(written / entry.name))
        if code in first:
            found.add((planned.entries[first[code]].drawing, entry.name))
        first.setdefault(code, place)
    assert found == {(entry.drawing, entry.name) for entry in planned.entries if entry.copy}


def test_copies_follow_their_original_and_are_of_their_kind(planned: Plan, written: Path) -> None:
    originals = {}
    for entry in planned.entries:
        content = (written / entry.name).read_bytes()
        if entry.copy is None:
            assert entry.drawing not in originals
            originals[entry.drawing] = entry, content
            continue
        original, first = originals[entry.drawing]
        assert (entry.category, entry.textures) == (original.category, original.textures)
        assert (content == first) == (entry.copy == "exact")


def test_every_category_and_texture_is_in_every_split(planned: Plan) -> None:
    originals = [entry for entry in planned.entries if entry.copy is None]
    for split, share in (("train", 0.72), ("val", 0.14), ("test", 0.14)):
        part = [entry for entry in originals if entry.split == split]
        assert len(part) / len(originals) == pytest.approx(share, abs=0.03)
        assert {entry.category for entry in part} == set(CATEGORIES)
        assert {texture for entry in part for texture in entry.textures} == set(TEXTURES)


def test_categories_and_textures_are_balanced_and_independent() -> None:
    cells = len(CATEGORIES) * len(TEXTURES)
    usable = [
        entry
        for entry in plan(10 * cells + 17, seed=4).entries
        if entry.copy is None and entry.textures
    ]
    pairs = Counter((entry.category, entry.textures[0]) for entry in usable)
    assert len(pairs) == cells
    assert set(pairs.values()) <= {10, 11}
    assert sum(len(entry.textures) == 2 for entry in usable) / len(usable) == pytest.approx(
        0.08, abs=0.03
    )
    assert all(len(set(entry.textures)) == len(entry.textures) <= 2 for entry in usable)
    # Shuffled: neighbours in the file are of one category as often as chance has it.
    same = np.mean([a.category == b.category for a, b in pairwise(usable)])
    assert same == pytest.approx(1 / len(CATEGORIES), abs=0.03)


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_garment_stands_whole_on_a_light_background(category: str) -> None:
    for seed in range(6):
        picture = draw(category, (), seed)
        assert picture.shape == (SIZE, SIZE, 3)
        assert picture.dtype == np.uint8
        grey = picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        corners = grey[[2, 2, -3, -3], [2, -3, 2, -3]]
        assert corners.min() > 120
        assert np.mean(grey < corners.mean() - 25) > 0.1


@pytest.mark.parametrize("texture", TEXTURES)
def test_every_texture_shows(texture: str) -> None:
    def roughness(textures: tuple[str, ...]) -> float:
        inside = [
            draw("Skirt", textures, seed)[56:80, 52:76].astype(np.float32) for seed in range(5)
        ]
        return float(np.mean([part.std((0, 1)).mean() for part in inside]))

    assert roughness((texture,)) > 1.8 * roughness(())
