#!/usr/bin/env bash
# faiss-cpu 1.15.1: of equal vectors the exact index by inner product lists the one of the largest id
# first, the exact index by L2 the one of the smallest. On unit vectors both rank by cosine, but for
# ties: their lists differ, and only one of them has the order of the catalog.
#
# Seen: inner product [4, 3, 2, 1, 0]   L2 [0, 1, 2, 3, 4]   (5 of 30 equal vectors)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet faiss-cpu==1.15.1 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - << 'PYTHON'
import faiss
import numpy as np

vector = np.random.default_rng(0).normal(size=(1, 16)).astype("float32")
vector /= np.linalg.norm(vector)
lists = {}
for name, index in {"inner product": faiss.IndexFlatIP(16), "L2": faiss.IndexFlatL2(16)}.items():
    index.add(np.repeat(vector, 30, axis=0))
    lists[name] = index.search(vector, 5)[1][0].tolist()
print(lists)
assert lists == {"inner product": [4, 3, 2, 1, 0], "L2": [0, 1, 2, 3, 4]}
PYTHON
