"""Duplicates against naive loops over every pair, and against imagededup's own search."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imagededup.methods import PHash

from advrec.catalog.duplicates import first_of_each, near_duplicates, near_pairs


def distance(one, other):
    return (int(one) ^ int(other)).bit_count()


def kept_naively(hashes, most):
    kept, stands_for = [], []
    for place, value in enumerate(hashes):
        near = next((k for k in kept if distance(value, hashes[k]) <= most), place)
        stands_for.append(near)
        if near == place:
            kept.append(place)
    return stands_for


@st.composite
def clustered(draw):
    """Hashes that lie near each other: flips of a few bits of a few centres."""
    centres = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
    changes = st.sets(st.integers(0, 63), max_size=5)
    made = draw(st.lists(st.tuples(st.sampled_from(centres), changes), max_size=40))
    return np.array(
        [centre ^ sum(1 << bit for bit in bits) for centre, bits in made], dtype=np.uint64
    )


@given(clustered(), st.integers(0, 4))
@settings(max_examples=300, deadline=None)
def test_the_same_as_comparing_each_with_each(hashes, most):
    assert first_of_each(hashes, most).tolist() == kept_naively(hashes, most)
    distinct = np.array(list(dict.fromkeys(hashes.tolist())), dtype=np.uint64)
    pairs, distances = near_pairs(distinct, most)
    expected = [
        (i, j)
        for i in range(len(distinct))
        for j in range(i + 1, len(distinct))
        if distance(distinct[i], distinct[j]) <= most
    ]
    assert [tuple(pair) for pair in pairs.tolist()] == expected
    assert distances.tolist() == [distance(distinct[i], distinct[j]) for i, j in expected]


@given(clustered(), st.randoms())
@settings(max_examples=200, deadline=None)
def test_the_nearest_article_of_each_other_split_is_found(hashes, random):
    splits = [random.choice(["train", "validation", "test"]) for _ in hashes]
    expected = []
    for other in ("train", "validation", "test"):
        for article, (value, split) in enumerate(zip(hashes, splits, strict=True)):
            near = [
                (distance(value, hashes[j]), j)
                for j in range(len(hashes))
                if splits[j] == other and split != other
            ]
            if near and min(near)[0] <= 4:
                expected.append((article, split, min(near)[1], other, min(near)[0]))
    assert [tuple(row.values()) for row in near_duplicates(hashes, splits).to_pylist()] == expected


def test_many_equal_images_cost_no_more_than_others():
    """A shop's placeholder for a missing photograph: all pairs of 50,000 are 1,250 million."""
    hashes = np.full(50_000, 7, dtype=np.uint64)
    assert set(first_of_each(hashes, 4).tolist()) == {0}
    near = near_duplicates(hashes, ["train"] * 40_000 + ["test"] * 10_000)
    assert near.num_rows == 50_000
    assert near["distance"].to_pylist() == [0] * 50_000


def test_a_chain_of_small_changes_does_not_pull_different_images_together():
    chain = np.array([0, 0b1111, 0b11111111], dtype=np.uint64)
    assert first_of_each(chain, 4).tolist() == [0, 0, 2]


def test_the_same_pairs_as_imagededup():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, 30, dtype=np.uint64).repeat(4)
    hashes[1::4] ^= np.uint64(1 << 40)
    hashes ^= np.array(
        [sum(1 << int(bit) for bit in random.integers(0, 64, n % 4)) for n in range(120)],
        dtype=np.uint64,
    )
    hashes = np.unique(hashes)
    named = {str(place): f"{int(value):016x}" for place, value in enumerate(hashes)}
    found = PHash(verbose=False).find_duplicates(encoding_map=named, max_distance_threshold=4)
    expected = {
        tuple(sorted((int(one), int(other)))) for one, others in found.items() for other in others
    }
    assert {tuple(pair) for pair in near_pairs(hashes, 4)[0].tolist()} == expected
    assert len(expected) > 100


@pytest.mark.parametrize("most", [1, 4])
def test_far_fewer_pairs_are_compared_than_there_are(monkeypatch, most):
    """All pairs of 100,000 hashes are 5 thousand million."""
    from advrec.catalog import duplicates

    compared = 0
    candidates = duplicates._candidates

    def counting(distinct, distance):
        nonlocal compared
        for one, other in candidates(distinct, distance):
            compared += len(one)
            yield one, other

    monkeypatch.setattr(duplicates, "_candidates", counting)
    hashes = np.random.default_rng(1).integers(0, 2**64, 100_000, dtype=np.uint64)
    hashes[:10] = hashes[-10:] ^ np.uint64(1)
    assert (duplicates.first_of_each(hashes, most)[-10:] == np.arange(10)).all()
    assert 0 < compared < 5_000_000


ALONE = """
import sys
import numpy as np
from advrec.catalog.duplicates import phash
random = np.random.default_rng(0)
pictures = [random.integers(0, 255, (60 + n, 40 + 3 * n, 3), dtype=np.uint8) for n in range(5)]
pictures.append(np.zeros((9, 9, 3), np.uint8))
ours = [phash(picture) for picture in pictures]
assert not {"torch", "matplotlib"} & set(sys.modules), "hashing became expensive"
from imagededup.methods import CNN, PHash
from imagededup.utils import plot_duplicates
theirs = PHash(verbose=False)
assert ours == [int(theirs.encode_image(image_array=picture), 16) for picture in pictures]
assert len(set(ours)) == len(ours)
"""


@pytest.mark.long
def test_hashing_is_imagededups_and_does_not_import_what_it_does_not_need():
    subprocess.run([sys.executable, "-c", ALONE], check=True)
