#!/usr/bin/env bash
# usearch 2.26.6: Index(ndim=N, metric="cos") keeps float32 vectors as bfloat16 (8 bits of mantissa),
# and nothing but the attribute dtype says so. Articles whose distances are near change places, even
# in an exact search. dtype="f32" keeps what it is given.
#
# Seen: BF16: relative error 3.9e-03, exact lists of 10 that are right: 0.205; F32: 0.0e+00, 1.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet usearch==2.26.6 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - << 'PYTHON'
import numpy as np
from usearch.index import Index

random = np.random.default_rng(0)
vectors = (10 + random.normal(size=(1000, 128))).astype("float32")
queries = (vectors[:200] + 0.5 * random.normal(size=(200, 128))).astype("float32")


def unit(rows):
    return rows / np.linalg.norm(rows.astype("float64"), axis=1, keepdims=True)


order = np.argsort(-(unit(queries) @ unit(vectors).T), axis=1)
agree = {}
for dtype in (None, "f32"):
    index = Index(ndim=128, metric="cos", **({"dtype": dtype} if dtype else {}))
    index.add(np.arange(1000), vectors)
    error = max(np.abs(index.get(i).astype("float64") / vectors[i] - 1).max() for i in range(1000))
    top = index.search(queries, 10, exact=True).keys
    agree[dtype] = float((top == order[:, :10]).all(axis=1).mean())
    print(f"{index.dtype}: relative error {error:.1e}, exact lists of 10 that are right: {agree[dtype]}")
    assert ("BF16" in str(index.dtype) and error > 1e-3) == (dtype is None)
assert agree[None] < 0.9 < agree["f32"]
PYTHON
