#!/bin/sh
# safetensors 0.8.0 writes a file beside the one that is named and renames it: a link is replaced by a file of its own,
# and what it led to stays as it was (so is a device, by a user who may). What the system refuses is a SafetensorError,
# which is no OSError and has no errno. ltbench lets it write beside, and turns the error back (ltbench/system.py).
# Seen with safetensors 0.8.0 and numpy 2.4.6 on Linux. Exits with 1 if the behaviour or the output changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" safetensors==0.8.0 numpy==2.4.6
PYTHONPATH="$folder/packages" python3 - "$folder" <<'PYTHON' > "$folder/seen"
import sys
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save_file

folder = Path(sys.argv[1])
arrays = {"maps": np.zeros(3, np.float32)}
print("safetensors", safetensors.__version__, "numpy", np.__version__)
target = folder / "target"
target.write_bytes(b"")
link = folder / "link"
link.symlink_to(target)
save_file(arrays, link)
print("still a link", link.is_symlink(), "bytes behind it", target.stat().st_size)
try:
    save_file(arrays, folder / "no such folder" / "file")
except Exception as error:
    print(type(error).__name__, isinstance(error, OSError), hasattr(error, "errno"), "(os error 2)" in str(error))
PYTHON
cat > "$folder/expected" <<'TEXT'
safetensors 0.8.0 numpy 2.4.6
still a link False bytes behind it 0
SafetensorError False False True
TEXT
cat "$folder/seen"
diff "$folder/expected" "$folder/seen"
