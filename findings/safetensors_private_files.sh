#!/bin/sh
# safetensors 0.8.0 writes files that their owner alone may read (0600), whatever the umask, and takes the right to read
# away from a file that it replaces; torch.save, numpy.save and open() follow the umask. Weights, maps and caches in a folder that
# a group shares are then unreadable for all others. ltbench restores the usual mode (ltbench/checksums.py).
# Seen with safetensors 0.8.0 and numpy 2.4.6 on Linux. Exits with 1 if the behaviour or the output changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" safetensors==0.8.0 numpy==2.4.6
umask 022
PYTHONPATH="$folder/packages" python3 - "$folder" <<'PYTHON' > "$folder/seen"
import sys
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save, save_file

folder, array = Path(sys.argv[1]), np.zeros(3, np.float32)


def mode(name: str) -> str:
    return oct((folder / name).stat().st_mode & 0o777)


print("safetensors", safetensors.__version__)
np.save(folder / "array.npy", array)
print("numpy.save", mode("array.npy"))
save_file({"array": array}, folder / "new.safetensors")
print("save_file, new file", mode("new.safetensors"))
(folder / "old.safetensors").write_bytes(save({"array": array}))
print("write_bytes(save(...))", mode("old.safetensors"))
save_file({"array": array}, folder / "old.safetensors")
print("save_file over it", mode("old.safetensors"))
PYTHON
cat > "$folder/expected" <<'TEXT'
safetensors 0.8.0
numpy.save 0o644
save_file, new file 0o600
write_bytes(save(...)) 0o644
save_file over it 0o600
TEXT
cat "$folder/seen"
diff "$folder/expected" "$folder/seen"
