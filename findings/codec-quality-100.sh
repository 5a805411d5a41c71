#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93, pillow 13.0.0: "quality 100" is no loss in one and a large loss in
# the other. OpenCV's WebP is lossless where no quality is given and above 100, and lossy at 100; its
# AVIF is lossless at 100. Pillow's AVIF and WebP at quality 100 halve the colours' resolution: single
# values move by 40 of 255. A shop that "stores at quality 100" destroys a change of 8/255 or keeps it
# to the bit, by its library.
#
# Seen: largest change of a value: opencv webp without quality 0, 100: 47, 101: 0, opencv avif 100: 0;
#       pillow webp 100: 44, pillow avif 100: 42
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet opencv-python-headless==5.0.0.93 pillow==13.0.0 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - << 'PYTHON'
import numpy as np

y, x = np.mgrid[0:96, 0:96]
waves = [127 + 100 * np.sin(x / 7), 127 + 100 * np.cos(y / 9), 127 + 80 * np.sin((x + y) / 11)]
noise = np.random.default_rng(0).normal(0, 12, (96, 96, 3))
picture = np.clip(np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)

import io

import cv2
from PIL import Image


def by_opencv(ending, *parameters):
    encoded = cv2.imencode(ending, picture, list(parameters))[1]
    return int(np.abs(cv2.imdecode(encoded, cv2.IMREAD_COLOR).astype(int) - picture).max())


def by_pillow(form):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, form, quality=100)
    return int(np.abs(np.asarray(Image.open(buffer).convert("RGB")).astype(int) - picture).max())


largest = {
    "opencv webp, no quality": by_opencv(".webp"),
    "opencv webp 100": by_opencv(".webp", cv2.IMWRITE_WEBP_QUALITY, 100),
    "opencv webp 101": by_opencv(".webp", cv2.IMWRITE_WEBP_QUALITY, 101),
    "opencv avif 100": by_opencv(".avif", cv2.IMWRITE_AVIF_QUALITY, 100),
    "pillow webp 100": by_pillow("WEBP"),
    "pillow avif 100": by_pillow("AVIF"),
}
print("largest change of a value:", largest)
assert [change > 20 for change in largest.values()] == [False, True, False, False, True, True]
assert sorted(largest.values())[:3] == [0, 0, 0]
PYTHON
