#!/usr/bin/env bash
# safetensors 0.8.0, numpy 2.4.6: safetensors.numpy.save_file writes an array that is not contiguous
# as the bytes that lie in memory from its first value on. It raises nothing; what is read back has
# the right shape and other values. (safetensors.torch refuses such a tensor.) A state dict of NumPy
# arrays with a transposed weight is another network after a round trip.
#
# Seen: transposed equal: False; every second value: [0, 1, 2, 3, 4] in place of [0, 2, 4, 6, 8]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet safetensors==0.8.0 numpy==2.4.6
cd "$folder"
"$folder/env/bin/python" - << 'PYTHON'
import numpy as np
from safetensors.numpy import load_file, save_file

transposed = np.arange(6.0).reshape(2, 3).T
every_second = np.arange(10)[::2]
save_file({"transposed": transposed, "every_second": every_second}, "weights.safetensors")
loaded = load_file("weights.safetensors")
equal = np.array_equal(loaded["transposed"], transposed)
print("transposed equal:", equal, "  every second value:", loaded["every_second"].tolist())
assert loaded["transposed"].shape == (3, 2) and not equal
assert loaded["every_second"].tolist() == [0, 1, 2, 3, 4]
PYTHON
