"""The floor: distance to the mean training image."""
