#!/usr/bin/env bash
# safetensors 0.8.0: save_file writes a file that its owner alone can read, mode 0600, whatever the umask
# says; open() and torch.save obey it. A file that was there with mode 0664 has 0600 afterwards, and a
# symbolic link is replaced by a file: what it points to keeps the old weights. So a model exported for
# a service of another user cannot be opened there. safetensors.numpy.save with open() does neither.
#
# Seen: umask 022: save_file 600, save and open 644, over a 664 file 600; link replaced, old file kept
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet safetensors==0.8.0 numpy==2.4.6
cd "$folder"
umask 022
"$folder/env/bin/python" - << 'PYTHON'
import os
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save, save_file


def mode(path):
    return f"{os.stat(path).st_mode & 0o777:o}"


first, second = {"weight": np.zeros(2)}, {"weight": np.ones(2)}
save_file(first, "saved.safetensors")
Path("written.safetensors").write_bytes(save(first))
Path("shared.safetensors").touch()
os.chmod("shared.safetensors", 0o664)
save_file(first, "shared.safetensors")
modes = [mode(f"{name}.safetensors") for name in ("saved", "written", "shared")]
os.symlink("saved.safetensors", "current.safetensors")
save_file(second, "current.safetensors")
is_link, old = os.path.islink("current.safetensors"), load_file("saved.safetensors")["weight"]
print("modes", modes, "still a link", is_link, "what it pointed to", old)
assert modes == ["600", "644", "600"] and not is_link and not old.any()
PYTHON
