#!/bin/sh
# A product of small matrices with numpy 2.4.6 keeps another core busy for 70 ms after it is done. From some
# 500,000 multiplications on OpenBLAS shares a product among its threads, and a thread that has nothing more to do spins
# for that long before it sleeps. So who resizes a 16 x 16 map of scores to 256 x 256 by a product of matrices once an image,
# 0.2 ms of work, takes a core from whatever runs beside it: a network on two cores took 1.4 times as long. A profile
# of Python's functions does not show it, nor does a clock around the product; the processor time of the process does.
# threadpoolctl's limit of one thread, or OPENBLAS_NUM_THREADS=1, ends it, with the same result.
# Seen with numpy 2.4.6 and threadpoolctl 3.6.0 on Linux (x86_64). Exits with 1 if the behaviour or the output changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.4.6 threadpoolctl==3.6.0
OPENBLAS_NUM_THREADS=2 "$folder/venv/bin/python" - <<'PYTHON' > "$folder/seen"
import time

import numpy as np
from threadpoolctl import threadpool_limits

rows, grid = np.random.rand(256, 16), np.random.rand(16, 16)


def processor_ms():
    """Return the processor time of a product and of the 10 ms after it."""
    start = time.process_time()
    for _ in range(100):
        (rows @ grid) @ rows.T
        time.sleep(0.01)
    return (time.process_time() - start) * 10


shared = rows @ grid @ rows.T
two = processor_ms()
with threadpool_limits(1, user_api="blas"):
    one = processor_ms()
    print("the same result:", np.array_equal(shared, rows @ grid @ rows.T))
print("two threads take more than 4 times the processor time of one:", two > 4 * one)
PYTHON
cat "$folder/seen"
diff - "$folder/seen" <<'SEEN'
the same result: True
two threads take more than 4 times the processor time of one: True
SEEN
