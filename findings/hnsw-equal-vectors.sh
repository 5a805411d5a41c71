#!/usr/bin/env bash
# nmslib 2.1.2, hnswlib 0.8.0, faiss-cpu 1.15.1: 300 equal vectors among 1,299 (one photograph, uploaded
# often) cut the graph of an HNSW index. Articles that are no copies are not found by their own vector,
# at settings that find all of them without the copies: the copies fill each other's lists of links.
#
# Seen: 999 articles that are no copies find themselves: alone 1.0 for all three; with the copies
#       nmslib 0.903, hnswlib 0.971, faiss 0.977
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet nmslib==2.1.2 hnswlib==0.8.0 faiss-cpu==1.15.1 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - << 'PYTHON'
import faiss
import hnswlib
import nmslib
import numpy as np

vectors = np.random.default_rng(0).normal(size=(1000, 128)).astype("float32")
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
single = vectors[1:]


def by_nmslib(catalog):
    index = nmslib.init(method="hnsw", space="cosinesimil")
    index.addDataPointBatch(catalog)
    index.createIndex({"M": 16, "efConstruction": 200, "indexThreadQty": 1})
    index.setQueryTimeParams({"efSearch": 200})
    return [ids[0] for ids, _ in index.knnQueryBatch(single, k=1, num_threads=1)]


def by_hnswlib(catalog):
    index = hnswlib.Index("cosine", 128)
    index.init_index(len(catalog), ef_construction=200, M=16)
    index.add_items(catalog, num_threads=1)
    index.set_ef(200)
    return index.knn_query(single, k=1)[0][:, 0]


def by_faiss(catalog):
    faiss.omp_set_num_threads(1)
    index = faiss.IndexHNSWFlat(128, 16)
    index.hnsw.efConstruction = index.hnsw.efSearch = 200
    index.add(catalog)
    return index.search(single, 1)[1][:, 0]


for search in (by_nmslib, by_hnswlib, by_faiss):
    shares = []
    for catalog in (vectors, np.concatenate([np.repeat(vectors[:1], 299, axis=0), vectors])):
        first = np.asarray(search(catalog), dtype=int)
        itself = [i >= 0 and np.allclose(catalog[i], v) for i, v in zip(first, single)]
        shares.append(float(np.mean(itself)))
    print(search.__name__, "find themselves: alone", shares[0], "with copies", round(shares[1], 3))
    assert shares[0] > 0.999 and shares[1] < 0.995
PYTHON
