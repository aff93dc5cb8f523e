#!/bin/sh
# torch 2.14.1: to write a precision back as it was read is no way to restore it. torch.backends.cudnn.conv starts as
# "tf32" and follows torch.backends.fp32_precision; who stores "tf32", and sets that same "tf32" again, cuts it off: the
# program's later choice of full float32 for everything no longer reaches convolutions. Only "none" follows, and is
# not what it reads as at the start. A guard has to turn the topmost switch, and below it only what was written to before
# (ltbench/blocks/switches.py).
# Seen with torch 2.14.1 on Linux, without a GPU. Exits with 1 if the behaviour or the output changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
for act in untouched "written back" "set to none"; do
    "$folder/venv/bin/python" - "$act" <<'PYTHON'
import sys

import torch

act, conv = sys.argv[1], torch.backends.cudnn.conv
before = conv.fp32_precision
if act == "written back":
    conv.fp32_precision = before
elif act == "set to none":
    conv.fp32_precision = "none"
after = conv.fp32_precision
torch.backends.fp32_precision = "ieee"
print(f"{act}: {before}, then {after}; with ieee for everything {conv.fp32_precision}")
PYTHON
done > "$folder/seen"
cat "$folder/seen"
diff - "$folder/seen" <<'SEEN'
untouched: tf32, then tf32; with ieee for everything ieee
written back: tf32, then tf32; with ieee for everything tf32
set to none: tf32, then none; with ieee for everything ieee
SEEN
