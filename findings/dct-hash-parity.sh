#!/usr/bin/env bash
# imagehash 4.3.2, pdqhash 0.2.8: a hash that compares values with their own median has as many ones
# as zeros, so two of them differ in an even number of bits, always. imagehash's phash and whash set 32
# of 64 bits, pdqhash 128 of 256. A threshold of 1 means 0, one of 31 means 30.
#
# Seen: bits set: phash [32], whash [32], pdqhash [128]; distances of all pairs of 40 pictures even;
#       of dhash even and odd
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet ImageHash==4.3.2 pdqhash==0.2.8 pillow==13.0.0 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - << 'PYTHON'
import imagehash
import numpy as np
import pdqhash
from PIL import Image

random = np.random.default_rng(0)
noise = random.integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
functions = {
    "phash": lambda pixels: imagehash.phash(Image.fromarray(pixels)).hash,
    "whash": lambda pixels: imagehash.whash(Image.fromarray(pixels)).hash,
    "dhash": lambda pixels: imagehash.dhash(Image.fromarray(pixels)).hash,
    "pdqhash": lambda pixels: pdqhash.compute(pixels)[0].astype(bool),
}
for name, function in functions.items():
    bits = [function(pixels).ravel() for pixels in noise]
    parities = {int((a != b).sum()) % 2 for a in bits for b in bits}
    ones = sorted({int(each.sum()) for each in bits})
    print(name, "bits set", ones, "parities of distances", sorted(parities))
    assert parities == ({0, 1} if name == "dhash" else {0})
    assert name == "dhash" or ones == [len(bits[0]) // 2]
PYTHON
