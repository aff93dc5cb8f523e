#!/bin/sh
# The main job on the built-in dataset: splits, runs, tables. A few minutes on two cores; nothing is downloaded.
set -eu

RESULTS=${LTBENCH_RESULTS:-results/demo}
SPLITS="shapes_full shapes_step20 shapes_step20_noisy10"
SMALL=shapes_exp50

run() { # method split
    echo "# ltbench run --method $1 --split $2 --preset offline"
    ltbench run --method "$1" --split "$2" --preset offline --results "$RESULTS"
}

echo "# ltbench make-splits $SPLITS $SMALL"
ltbench make-splits $SPLITS $SMALL --out "$RESULTS/splits"
for split in $SPLITS; do
    for method in mean_image patchcore; do
        run "$method" "$split"
    done
done
for method in tailedcore uniad rlr ltad; do
    run "$method" "$SMALL"
done
chosen=$(for split in $SPLITS; do printf -- '--split %s ' "$split"; done)
echo "# ltbench table $chosen--metric image_auroc --group all"
ltbench table $chosen --metric image_auroc --group all --results "$RESULTS"
echo "# ltbench table $chosen--metric pixel_auroc,pixel_aupro_30"
ltbench table $chosen --metric pixel_auroc,pixel_aupro_30 --results "$RESULTS"
echo "# ltbench table --split $SMALL --metric image_auroc,pixel_auroc --group all"
ltbench table --split $SMALL --metric image_auroc,pixel_auroc --group all --results "$RESULTS"
