#!/bin/sh
# torch 2.14.1's documentation says of set_float32_matmul_precision that it affects one kind of device, CUDA. It sets
# oneDNN's precision of products on a CPU as well: "high" to tf32, "medium" to bf16. Scripts set it for their GPU once and
# for all; where the processor has AVX-512, a product on the CPU then differs in its last digits, and in more where it
# multiplies bfloat16. A training on a CPU that shall give the same bits has to turn it (ltbench/blocks/switches.py).
# Seen with torch 2.14.1 on Linux, on an x86-64 processor. Exits with 1 if the behaviour or the output changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON' > "$folder/seen"
import torch

print("documented for CUDA alone:", "only affects one native device type: CUDA" in torch.set_float32_matmul_precision.__doc__)
for precision in ("highest", "high", "medium"):
    torch.set_float32_matmul_precision(precision)
    print(f"{precision}: products on a CPU {torch.backends.mkldnn.matmul.fp32_precision}")
PYTHON
cat "$folder/seen"
"$folder/venv/bin/python" - <<'PYTHON'
import torch

one, other = (torch.randn(512, 512, generator=torch.Generator().manual_seed(seed)) for seed in range(2))
before = one @ other
torch.set_float32_matmul_precision("medium")
where = torch.backends.cpu.get_cpu_capability()
print(f"largest difference that medium makes here, in a product of 512 x 512 ({where}): {(one @ other - before).abs().max():.2g}")
PYTHON
diff - "$folder/seen" <<'SEEN'
documented for CUDA alone: True
highest: products on a CPU ieee
high: products on a CPU tf32
medium: products on a CPU bf16
SEEN
