#!/usr/bin/env bash
# hnswlib 0.8.0: a saved index forgets two things that decide its answers. The width of the search, ef,
# falls back to 10 in silence, so that recall drops from one process to the next. And the space is not
# stored: a file of "cosine" loads as "l2", which answers, with other distances. Besides, an index of
# "cosine" keeps unit vectors alone: get_items does not give back what add_items got.
#
# Seen: ef 200 -> 10; recall of the 10 nearest 0.954 -> 0.825; lengths 16.19 in, 1.00 out; as
#       l2 an article lies 257.50 from itself, not 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet hnswlib==0.8.0 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - << 'PYTHON'
import hnswlib
import numpy as np

vectors = np.random.default_rng(0).normal(size=(20_000, 256)).astype(np.float32)
units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
queries = slice(0, 200)
nearest = np.argsort(-(units[queries] @ units.T), axis=1)[:, :10]


def recall(index):
    found, _ = index.knn_query(vectors[queries], k=10, num_threads=1)
    return np.mean([len({*ours} & {*theirs}) / 10 for ours, theirs in zip(found, nearest)])


built = hnswlib.Index("cosine", 256)
built.init_index(len(vectors), M=16, ef_construction=200, random_seed=1)
built.add_items(vectors, num_threads=1)
built.set_ef(200)
built.save_index("articles.bin")
loaded, other = hnswlib.Index("cosine", 256), hnswlib.Index("l2", 256)
loaded.load_index("articles.bin")
other.load_index("articles.bin")
lengths = np.linalg.norm(vectors[0]), np.linalg.norm(built.get_items([0])[0])
itself = other.knn_query(vectors[:1], k=1, num_threads=1)[1][0, 0]
print(f"ef {built.ef} -> {loaded.ef}; recall {recall(built):.3f} -> {recall(loaded):.3f}")
print(f"lengths {lengths[0]:.2f} in, {lengths[1]:.2f} out; to itself as l2 {itself:.2f}")
assert (built.ef, loaded.ef) == (200, 10)
assert recall(built) > 0.9 and recall(loaded) < recall(built) - 0.05
assert lengths[0] > 2 and abs(lengths[1] - 1) < 1e-3 and itself > 1
PYTHON
