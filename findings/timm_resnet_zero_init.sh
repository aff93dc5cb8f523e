#!/bin/sh
# A ResNet of timm 1.0.31 that is trained from scratch does not start as torchvision's of the same name does.
# timm.create_model("resnet18") sets the weight of the last batch norm of each residual block to 0 (zero_init_last=True),
# so that every block begins as the identity; torchvision.models.resnet18() leaves it at 1 (zero_init_residual=False).
# Pretrained weights hide it: who trains from scratch beside code on torchvision, as CutPaste's and RegAD's is, starts
# elsewhere. timm's argument zero_init_last=False gives torchvision's start.
# Seen with timm 1.0.31, torch 2.14.1 and torchvision 0.29.1 on Linux. Exits with 1 if the behaviour or the output changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check timm==1.0.31 torch==2.14.1 torchvision==0.29.1
"$folder/venv/bin/python" - <<'PYTHON' > "$folder/seen"
import timm
import torchvision

for name, network in (
    ("timm", timm.create_model("resnet18", pretrained=False)),
    ("timm, zero_init_last=False", timm.create_model("resnet18", pretrained=False, zero_init_last=False)),
    ("torchvision", torchvision.models.resnet18(weights=None)),
):
    print(name, network.layer1[0].bn1.weight.unique().tolist(), network.layer1[0].bn2.weight.unique().tolist())
PYTHON
cat "$folder/seen"
diff - "$folder/seen" <<'SEEN'
timm [1.0] [0.0]
timm, zero_init_last=False [1.0] [1.0]
torchvision [1.0] [1.0]
SEEN
