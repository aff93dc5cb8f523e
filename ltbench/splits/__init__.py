"""Splits: which images of a dataset train and which test, made from a name, read from a file or imported."""
