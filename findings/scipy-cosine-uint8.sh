#!/usr/bin/env bash
# scipy 1.17.1, numpy 2.4.6: scipy.spatial.distance.cosine of two uint8 vectors (pixels, quantised
# embeddings) multiplies in uint8. It says 0, equal, of vectors whose distance is 0.43; a
# RuntimeWarning is all that tells. cdist of the same vectors is right, for it converts first.
#
# Seen: cosine 0.0   cdist 0.4285714285714286
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet scipy==1.17.1 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - << 'PYTHON'
import warnings

import numpy as np
from scipy.spatial.distance import cdist, cosine

warnings.simplefilter("ignore")
first, second = np.array([200, 100, 50], np.uint8), np.array([50, 100, 200], np.uint8)
wrong, right = float(cosine(first, second)), float(cdist(first[None], second[None], "cosine")[0, 0])
print("cosine", wrong, "  cdist", right)
assert wrong == 0.0 and abs(right - 3 / 7) < 1e-12
PYTHON
