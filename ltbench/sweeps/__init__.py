"""Sweeps: which runs a grid stands for, which of them are missing, and how far they are."""
