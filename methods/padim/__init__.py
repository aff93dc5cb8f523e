"""PaDiM: a Gaussian of patch features at every position, scored by the Mahalanobis distance."""
