#!/bin/sh
# threadpoolctl 3.8.0: of several threads only one can set how many OpenBLAS (pthreads, as in numpy's wheels) takes. The first
# that calls `set_num_threads` of a library controller keeps that right while it lives; what others set is passed over
# without a word, be it by their controllers or by `threadpool_limits`. 3.6.0 let all of them set. So who counts threads in
# and out of a block that takes one thread, and lets the last one put the usual count back, leaves the process at one thread
# for good where another came in first. `clear_controlling_thread()` after each setting gives the right back.
# Seen with threadpoolctl 3.8.0, 3.6.0 and numpy 2.4.6 on Linux (x86_64). Exits with 1 if the behaviour or the output changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
for version in 3.6.0 3.8.0; do
    "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.4.6 "threadpoolctl==$version"
    OPENBLAS_NUM_THREADS=3 "$folder/venv/bin/python" - "$version" <<'PYTHON' >> "$folder/seen"
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy  # noqa: F401  its OpenBLAS
from threadpoolctl import ThreadpoolController, threadpool_limits

(blas,) = ThreadpoolController().select(user_api="blas").lib_controllers
with ThreadPoolExecutor(1) as other:
    blas.set_num_threads(1)
    other.submit(blas.set_num_threads, 3).result()
    print(sys.argv[1], "another thread sets 3, as before:", blas.get_num_threads())

    def limited():
        with threadpool_limits(2, user_api="blas"):
            return blas.get_num_threads()

    print(sys.argv[1], "another thread's limit of 2:", other.submit(limited).result())
    if hasattr(blas, "clear_controlling_thread"):
        blas.clear_controlling_thread()
        other.submit(blas.set_num_threads, 3).result()
        print(sys.argv[1], "once the first has cleared:", blas.get_num_threads())
PYTHON
done
cat "$folder/seen"
diff - "$folder/seen" <<'SEEN'
3.6.0 another thread sets 3, as before: 3
3.6.0 another thread's limit of 2: 2
3.8.0 another thread sets 3, as before: 1
3.8.0 another thread's limit of 2: 1
3.8.0 once the first has cleared: 3
SEEN
