#!/usr/bin/env bash
# pillow 13.0.0, pyvips-binary 8.18.7: a JPEG's thumbnail depends on whether its pixels were read before.
# Image.thumbnail of a file just opened lets the decoder halve the picture; after load(), or any look at
# a pixel, the same call scales what is decoded. libvips' thumbnail of a file and of an image differ
# likewise. The two pictures are up to 3 levels apart: more than many a budget of an attack, so an
# index built by one way and queries made by the other do not hold the same image.
#
# Seen: largest difference, in levels of 255: pillow 3, libvips 3; share of values that differ: 41 %, 46 %
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet pillow==13.0.0 pyvips==3.2.0 pyvips-binary==8.18.7 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - << 'PYTHON'
import io

import numpy as np
import pyvips
from PIL import Image

random = np.random.default_rng(0)


def cloud(size):
    noise = Image.fromarray(random.integers(0, 256, (size, size, 3), dtype=np.uint8))
    return np.asarray(noise.resize((1024, 1024), Image.BICUBIC)).astype(float)


picture = 0.5 * cloud(8) + 0.3 * cloud(64) + 0.2 * cloud(512)
stored = io.BytesIO()
Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(stored, "JPEG", quality=90)
jpeg = stored.getvalue()


def by_pillow(*, loaded):
    image = Image.open(io.BytesIO(jpeg))
    if loaded:
        image.load()
    image.thumbnail((128, 128))
    return np.asarray(image).astype(int)


def by_vips(*, loaded):
    if loaded:
        image = pyvips.Image.new_from_buffer(jpeg, "").thumbnail_image(128)
    else:
        image = pyvips.Image.thumbnail_buffer(jpeg, 128)
    return image.numpy().astype(int)


for name, thumbnail in (("pillow", by_pillow), ("libvips", by_vips)):
    apart = np.abs(thumbnail(loaded=False) - thumbnail(loaded=True))
    print(name, "largest", apart.max(), "share", f"{(apart > 0).mean():.0%}")
    assert apart.max() >= 2 and (apart > 0).mean() > 0.2
PYTHON
