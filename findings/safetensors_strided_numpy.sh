#!/bin/sh
# safetensors 0.8.0 writes a strided numpy array as the bytes at its start, without an error: what is read back has the
# right shape and other values. ltbench makes every array contiguous where it is written (ltbench/checksums.py).
# Seen with safetensors 0.8.0 and numpy 2.4.6 on Linux. Exits with 1 if the behaviour or the output changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" safetensors==0.8.0 numpy==2.4.6
PYTHONPATH="$folder/packages" python3 - "$folder/strided.safetensors" <<'PYTHON' > "$folder/seen"
import sys

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

written = np.moveaxis(np.arange(6, dtype=np.float32).reshape(3, 2), 0, 1)
save_file({"maps": written}, sys.argv[1])
read = load_file(sys.argv[1])["maps"]
print("safetensors", safetensors.__version__, "numpy", np.__version__)
print("written", written.tolist())
print("read", read.tolist())
save_file({"maps": np.ascontiguousarray(written)}, sys.argv[1])
print("contiguous", load_file(sys.argv[1])["maps"].tolist())
PYTHON
cat > "$folder/expected" <<'TEXT'
safetensors 0.8.0 numpy 2.4.6
written [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]
read [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
contiguous [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]
TEXT
cat "$folder/seen"
diff "$folder/expected" "$folder/seen"
