#!/bin/sh
# The random projection before PatchCore's coreset in anomalib 2.7.0 can make patches wider instead of narrower. KCenterGreedy
# asks for SparseRandomProjection(eps=0.9), whose width follows from the number of patches alone (Johnson-Lindenstrauss: 330
# for 640 images of 32 x 32 patches), not from the width of a patch. 1,536 values of WideResNet50-2 become 330; 152 of
# EfficientNet-Lite0 (levels 2 and 3) become 330 too, so that each of the thousands of passes over all patches reads 2.2 times
# as much as without a projection, for distances that are distorted by up to 90 %. scikit-learn, from whose class it
# is taken, refuses such data. Two images suffice for more than 152 values.
# Seen with anomalib 2.7.0, torch 2.14.1 and scikit-learn 1.9.1 on Linux. Exits with 1 if the behaviour or the output changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check anomalib==2.7.0 torch==2.14.1 torchvision==0.29.1 scikit-learn==1.9.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON' > "$folder/seen"
import torch
from anomalib.models.components.sampling import KCenterGreedy
from sklearn.random_projection import SparseRandomProjection

for rows in (2_048, 654_336):
    sampler = KCenterGreedy(torch.zeros(rows, 152), sampling_ratio=0.01)
    sampler.model.fit(sampler.embedding)
    print(f"{rows} patches of 152 values:", *sampler.model.transform(sampler.embedding[:1]).shape[1:], "values")
try:
    SparseRandomProjection(eps=0.9).fit(torch.zeros(654_336, 152).numpy())
except ValueError as error:
    print("scikit-learn:", error)
PYTHON
cat "$folder/seen"
diff - "$folder/seen" <<'SEEN'
2048 patches of 152 values: 188 values
654336 patches of 152 values: 330 values
scikit-learn: eps=0.900000 and n_samples=654336 lead to a target dimension of 330 which is larger than the original space with n_features=152
SEEN
