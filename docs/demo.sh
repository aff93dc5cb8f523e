#!/bin/sh
# The main job on the built-in dataset: splits, runs, a table. A few minutes on two cores; nothing is downloaded.
set -eu

RESULTS=${LTBENCH_RESULTS:-results/demo}
SPLITS="shapes_full shapes_step20 shapes_step20_noisy10"

echo "# ltbench make-splits $SPLITS"
ltbench make-splits $SPLITS --out "$RESULTS/splits"
for split in $SPLITS; do
    for method in mean_image patchcore; do
        echo "# ltbench run --method $method --split $split --preset offline"
        ltbench run --method "$method" --split "$split" --preset offline --results "$RESULTS"
    done
done
echo "# ltbench table --dataset shapes --metric image_auroc --group all"
ltbench table --dataset shapes --metric image_auroc --group all --results "$RESULTS"
echo "# ltbench table --dataset shapes --metric pixel_auroc,pixel_aupro_30"
ltbench table --dataset shapes --metric pixel_auroc,pixel_aupro_30 --results "$RESULTS"
