#!/bin/sh
# torch 2.14.1: once a program has chosen full float32 by fp32_precision, the way that torch recommends since 2.9, every
# torch.backends.cudnn.flags(...) raises, whatever is passed, and so does reading torch.backends.cudnn.allow_tf32. The
# message says that conv and RNN have different TF32 flags, which they do not have. No device is needed for it. A library
# that guards a block with flags() therefore fails in a program that is itself in order; ltbench turns the new switches
# (ltbench/blocks/switches.py). Choosing for products of matrices alone (torch.backends.cuda.matmul) does no harm.
# Seen with torch 2.14.1 on Linux, without a GPU. Exits with 1 if the behaviour or the output changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
for where in nowhere cuda.matmul everywhere; do
    "$folder/venv/bin/python" - "$where" <<'PYTHON'
import sys

import torch

backends, where = torch.backends, sys.argv[1]
if where == "everywhere":
    backends.fp32_precision = "ieee"
elif where == "cuda.matmul":
    backends.cuda.matmul.fp32_precision = "ieee"
print(f"ieee chosen {where}: conv {backends.cudnn.conv.fp32_precision}, rnn {backends.cudnn.rnn.fp32_precision}")
try:
    with backends.cudnn.flags(enabled=True, allow_tf32=False):
        print("  flags() works")
except RuntimeError as error:
    print("  flags() raises:", str(error).partition("This combination")[0].partition("but ")[2])
PYTHON
done > "$folder/seen"
cat "$folder/seen"
diff - "$folder/seen" <<'SEEN'
ieee chosen nowhere: conv tf32, rnn tf32
  flags() works
ieee chosen cuda.matmul: conv tf32, rnn tf32
  flags() works
ieee chosen everywhere: conv ieee, rnn ieee
  flags() raises: the current flag(s) indicate that cuDNN conv and cuDNN RNN have different TF32 flags.
SEEN
