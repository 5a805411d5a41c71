#!/usr/bin/env bash
# webdataset 1.0.2: a sample's key ends at the first dot of the file's name, not at the last. Two
# articles shirt.v1.jpg and shirt.v2.jpg of a shard become one sample, which has no "jpg" at all
# but "v1.jpg" and "v2.jpg"; "coat 1.5 m.jpg" is the sample "coat 1". No error, no warning: decoding
# by "jpg" finds fewer articles than the shard holds.
#
# Seen: 4 files, 3 samples: {'shirt': ['v1.jpg', 'v2.jpg'], 'coat 1': ['5 m.jpg'], 'hat': ['jpg']}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet webdataset==1.0.2 pillow==13.0.0 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - << 'PYTHON'
import io
import tarfile

import webdataset
from PIL import Image

names = ["shirt.v1.jpg", "shirt.v2.jpg", "coat 1.5 m.jpg", "hat.jpg"]
with tarfile.open("shard.tar", "w") as shard:
    for name in names:
        picture = io.BytesIO()
        Image.new("RGB", (8, 8)).save(picture, "JPEG")
        entry = tarfile.TarInfo(name)
        entry.size = len(picture.getvalue())
        shard.addfile(entry, io.BytesIO(picture.getvalue()))

samples = {
    sample["__key__"]: sorted(key for key in sample if not key.startswith("__"))
    for sample in webdataset.WebDataset("shard.tar", shardshuffle=False)
}
print(len(names), "files,", len(samples), "samples:", samples)
assert samples == {"shirt": ["v1.jpg", "v2.jpg"], "coat 1": ["5 m.jpg"], "hat": ["jpg"]}
PYTHON
