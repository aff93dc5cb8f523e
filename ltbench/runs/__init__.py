"""From a RunSpec to a record."""
