"""PatchCore: a coreset of patch features, scored by the nearest neighbour."""
