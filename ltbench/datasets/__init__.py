"""Datasets: which images there are, how they are cut to size, and whether a tree on disk is complete."""
