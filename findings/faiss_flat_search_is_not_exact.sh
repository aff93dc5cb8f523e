#!/bin/sh
# faiss-cpu 1.15.1: IndexFlatL2, which is called exact, finds other neighbours when many queries are searched in one call.
# From queries x dimension = 128,000 on (the default of distance_compute_blas_threshold, which was a number of queries, 20,
# in older releases) it computes |q|^2 + |x|^2 - 2 q.x in float32. That loses the distances of rows that lie close
# together and far from the origin, as near-equal patches of images do: nearly all nearest neighbours are then wrong.
# One query fewer, and all are right.
# Seen with faiss-cpu 1.15.1 and numpy 2.4.6 on Linux. Exits with 1 if the behaviour or the output changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/packages" faiss-cpu==1.15.1 numpy==2.4.6
PYTHONPATH="$folder/packages" python3 - <<'PYTHON' > "$folder/seen"
import faiss
import numpy as np

DIMENSION = 256
rng = np.random.default_rng(0)
centres = rng.normal(size=(8, DIMENSION))


def near_centres(count: int) -> np.ndarray:
    return (centres[rng.integers(0, 8, count)] + 1e-3 * rng.normal(size=(count, DIMENSION))).astype(np.float32)


rows, queries = near_centres(2000), near_centres(500)
true = [((rows.astype(np.float64) - query) ** 2).sum(axis=1).argmin() for query in queries.astype(np.float64)]
index = faiss.IndexFlatL2(DIMENSION)
index.add(rows)
print("faiss", faiss.__version__, "threshold", faiss.cvar.distance_compute_blas_threshold)
for count in (10, 499, 500):
    share = (index.search(queries[:count], 1)[1][:, 0] != true[:count]).mean()
    print(f"{count} queries in one call: wrong neighbours of {'none' if share == 0 else 'over nine in ten' if share > 0.9 else 'some'}")
PYTHON
cat > "$folder/expected" <<'TEXT'
faiss 1.15.1 threshold 128000
10 queries in one call: wrong neighbours of none
499 queries in one call: wrong neighbours of none
500 queries in one call: wrong neighbours of over nine in ten
TEXT
cat "$folder/seen"
diff "$folder/expected" "$folder/seen"
