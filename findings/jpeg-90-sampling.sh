#!/usr/bin/env bash
# pillow 13.0.0, opencv-python-headless 5.0.0.93, pyvips-binary 8.18.7, simplejpeg 1.9.0: JPEG of
# quality 90 is not one thing. Pillow and OpenCV store colours at half resolution (4:2:0) at every
# quality, 100 included; libvips does so up to 89 and not from 90 on; simplejpeg never does by itself.
# One file is almost twice as large as the other, and a small change of colours survives in one alone.
#
# Seen: sampling and bytes: pillow 90 2x2 4619, pillow 100 2x2 11539, opencv 90 2x2 4572, vips 89 2x2
#       4518, vips 90 1x1 8630, simplejpeg 90 1x1 8487
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet pillow==13.0.0 opencv-python-headless==5.0.0.93 pyvips==3.2.0 pyvips-binary==8.18.7 simplejpeg==1.9.0 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - << 'PYTHON'
import numpy as np

y, x = np.mgrid[0:96, 0:96]
waves = [127 + 100 * np.sin(x / 7), 127 + 100 * np.cos(y / 9), 127 + 80 * np.sin((x + y) / 11)]
noise = np.random.default_rng(0).normal(0, 12, (96, 96, 3))
picture = np.clip(np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)

import io

import cv2
import pyvips
import simplejpeg
from PIL import Image


def sampling(jpeg):
    # Sampling factors of the first component, from the frame header.
    frame = jpeg.index(b"\xff\xc0") if b"\xff\xc0" in jpeg else jpeg.index(b"\xff\xc2")
    return f"{jpeg[frame + 11] >> 4}x{jpeg[frame + 11] & 15}"


def by_pillow(quality):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


files = {
    "pillow 90": by_pillow(90),
    "pillow 100": by_pillow(100),
    "opencv 90": cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes(),
    "vips 89": pyvips.Image.new_from_array(picture).jpegsave_buffer(Q=89),
    "vips 90": pyvips.Image.new_from_array(picture).jpegsave_buffer(Q=90),
    "simplejpeg 90": simplejpeg.encode_jpeg(picture, quality=90),
}
print({name: (sampling(jpeg), len(jpeg)) for name, jpeg in files.items()})
assert [sampling(jpeg) for jpeg in files.values()] == ["2x2", "2x2", "2x2", "2x2", "1x1", "1x1"]
PYTHON
