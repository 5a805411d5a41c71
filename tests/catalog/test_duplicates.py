"""Duplicates against naive loops over every pair, and against imagededup's own search."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imagededup.methods import PHash

from advrec.catalog.duplicates import first_of_each, near_pairs


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
    return np.array([centre ^ sum(1 << bit for bit in bits) for centre, bits in made], dtype=np.uint64)


@given(clustered(), st.integers(0, 4))
@settings(max_examples=300, deadline=None)
def test_the_same_as_comparing_each_with_each(hashes, most):
    pairs, distances = near_pairs(hashes, most)
    expected = [(i, j) for i in range(len(hashes)) for j in range(i + 1, len(hashes)) if distance(hashes[i], hashes[j]) <= most]
    assert [tuple(pair) for pair in pairs.tolist()] == expected
    assert distances.tolist() == [distance(hashes[i], hashes[j]) for i, j in expected]
    assert first_of_each(hashes, most).tolist() == kept_naively(hashes, most)


def test_a_chain_of_small_changes_does_not_pull_different_images_together():
    chain = np.array([0, 0b1111, 0b11111111], dtype=np.uint64)
    assert first_of_each(chain, 4).tolist() == [0, 0, 2]


def test_the_same_pairs_as_imagededup():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, 30, dtype=np.uint64).repeat(4)
    hashes ^= np.array([sum(1 << int(bit) for bit in random.integers(0, 64, n % 4)) for n in range(120)], dtype=np.uint64)
    named = {str(place): f"{int(value):016x}" for place, value in enumerate(hashes)}
    found = PHash(verbose=False).find_duplicates(encoding_map=named, max_distance_threshold=4)
    expected = {tuple(sorted((int(one), int(other)))) for one, others in found.items() for other in others}
    assert {tuple(pair) for pair in near_pairs(hashes, 4)[0].tolist()} == expected
    assert len(expected) > 100


@pytest.mark.parametrize("most", [1, 4])
def test_far_fewer_pairs_are_compared_than_there_are(monkeypatch, most):
    """Of 100,000 hashes there are 5 thousand million pairs."""
    from advrec.catalog import duplicates

    compared = 0
    counted = duplicates._bits

    def counting(differences):
        nonlocal compared
        compared += len(differences)
        return counted(differences)

    monkeypatch.setattr(duplicates, "_bits", counting)
    hashes = np.random.default_rng(1).integers(0, 2**64, 100_000, dtype=np.uint64)
    duplicates.first_of_each(hashes, most)
    assert compared < 5_000_000


ALONE = """
import sys
import numpy as np
from advrec.catalog.duplicates import phash
random = np.random.default_rng(0)
pictures = [random.integers(0, 255, (60 + n, 40 + 3 * n, 3), dtype=np.uint8) for n in range(5)] + [np.zeros((9, 9, 3), np.uint8)]
ours = [phash(picture) for picture in pictures]
assert not {"torch", "matplotlib"} & set(sys.modules), "hashing became expensive"
from imagededup.methods import CNN, PHash
from imagededup.utils import plot_duplicates
theirs = PHash(verbose=False)
assert ours == [int(theirs.encode_image(image_array=picture), 16) for picture in pictures]
assert len(set(ours)) == len(ours)
"""


def test_hashing_is_imagededups_and_does_not_import_what_it_does_not_need():
    subprocess.run([sys.executable, "-c", ALONE], check=True)
