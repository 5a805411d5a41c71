#!/usr/bin/env bash
# implicit 0.7.3: a list that asks for more articles than there are is filled up, without a word.
# recommend(filter_already_liked_items=True) appends the articles that the user already has, at score
# -3.4e38; similar_items appends article 0 at score 0, once for each place. Who cuts lists at K and
# ignores the scores recommends what was bought, and counts article 0 as everybody's neighbour.
#
# Seen: 12 articles, 4 liked: the last 4 of the list are the liked ones, at -3.4028235e+38
#       similar_items(0, N=15): ids end in [0, 0, 0], scores in [0.0, 0.0, 0.0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet implicit==0.7.3 numpy==2.4.6 scipy==1.17.1
cd "$folder"
"$folder/env/bin/python" - << 'PYTHON'
import numpy as np
import scipy.sparse as sparse
from implicit.als import AlternatingLeastSquares

random = np.random.default_rng(0)
bought = sparse.csr_matrix((random.random((20, 12)) < 0.5).astype("float32"))
model = AlternatingLeastSquares(factors=4, iterations=3, random_state=0)
model.fit(bought, show_progress=False)
liked = set(bought[0].indices.tolist())
ids, scores = model.recommend(0, bought[0], N=12)
last = set(ids[-len(liked) :].tolist())
print(len(liked), "liked, last of the list:", sorted(last), scores[-1])
assert last == liked and len(ids) == 12
assert (scores[-len(liked) :] == np.finfo("float32").min).all()
near, nearness = model.similar_items(0, N=15)
print("similar_items:", near[-3:].tolist(), nearness[-3:].tolist())
assert near[-3:].tolist() == [0, 0, 0] and nearness[-3:].tolist() == [0.0, 0.0, 0.0]
PYTHON
