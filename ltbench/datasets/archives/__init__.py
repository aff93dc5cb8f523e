"""Getting a dataset: where its archives lie, and how they become a folder that is whole."""
