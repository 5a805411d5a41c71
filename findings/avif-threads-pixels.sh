#!/usr/bin/env bash
# pillow 13.0.0 (libavif 1.4.2): an AVIF file depends on the number of threads that encode it, by
# default all cores of the machine. It is not only the bytes: the decoded pixels differ too. At 64
# pixels they are equal, at 512 they are not. A hash of a shop's delivery, or an attack that is made
# for it, then changes with the machine; max_threads=1 pins it.
#
# Seen: side 64: equal; side 512: 28176 bytes with 1 thread, 28174 with 2, largest difference 18 of 255
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet pillow==13.0.0 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - << 'PYTHON'
import io

import numpy as np
from PIL import Image

random = np.random.default_rng(0)
for side in (64, 512):
    small = random.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((side, side), Image.BICUBIC)
    files, decoded = [], []
    for threads in (1, 2):
        buffer = io.BytesIO()
        picture.save(buffer, "AVIF", quality=60, max_threads=threads)
        files.append(len(buffer.getvalue()))
        decoded.append(np.asarray(Image.open(buffer).convert("RGB")).astype(int))
    difference = int(np.abs(decoded[0] - decoded[1]).max())
    print("side", side, "bytes", files, "largest difference", difference)
    assert (difference > 0) == (side == 512)
PYTHON
