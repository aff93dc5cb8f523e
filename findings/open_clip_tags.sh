#!/bin/sh
# Two pairs of a model and a tag in open_clip 3.3.0 give something else than they say.
# ViT-B-16-plus-240 with laion400m_e32 names the hub's repository of laion400m_e31: through the hub both tags give the
# weights of epoch 31, and only the older address, on GitHub, has those of epoch 32.
# ViT-L-14-336 with openai is built with the exact GELU, while the tag itself says that its weights were trained with
# QuickGELU; create_model warns and goes on. ViT-L-14-336-quickgelu is the one that fits.
# ltbench refuses both names (ltbench/blocks/vision_language/clip_weights.py).
# Seen with open_clip_torch 3.3.0 on Linux; only its tables are read, so that torch is not needed. Exits with 1 if the
# behaviour or the output changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$folder/packages" \
    open_clip_torch==3.3.0 tqdm==4.67.1
PYTHONPATH="$folder/packages" python3 - "$folder/packages" <<'PYTHON' > "$folder/seen"
import json
import sys
import types
from pathlib import Path

package = types.ModuleType("open_clip")  # the package's own __init__ would import torch
package.__path__ = [str(Path(sys.argv[1]) / "open_clip")]
sys.modules["open_clip"] = package
from open_clip.pretrained import _PRETRAINED
from open_clip.version import __version__

print("open_clip", __version__)
for tag, settings in _PRETRAINED["ViT-B-16-plus-240"].items():
    print("ViT-B-16-plus-240", tag, settings["hf_hub"], settings["url"].rpartition("/")[2])
for model in ("ViT-L-14-336", "ViT-L-14-336-quickgelu"):
    built = json.loads((Path(package.__path__[0]) / "model_configs" / f"{model}.json").read_text())
    tag = _PRETRAINED[model]["openai"]
    print(model, "built with QuickGELU:", built.get("quick_gelu", False), "weights of openai:", tag["quick_gelu"])
PYTHON
cat > "$folder/expected" <<'TEXT'
open_clip 3.3.0
ViT-B-16-plus-240 laion400m_e31 timm/vit_base_patch16_plus_clip_240.laion400m_e31/ vit_b_16_plus_240-laion400m_e31-8fb26589.pt
ViT-B-16-plus-240 laion400m_e32 timm/vit_base_patch16_plus_clip_240.laion400m_e31/ vit_b_16_plus_240-laion400m_e32-699c4b84.pt
ViT-L-14-336 built with QuickGELU: False weights of openai: True
ViT-L-14-336-quickgelu built with QuickGELU: True weights of openai: True
TEXT
cat "$folder/seen"
diff "$folder/expected" "$folder/seen"
