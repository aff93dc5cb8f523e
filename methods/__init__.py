"""The methods: one folder each, independent of one another, found by `ltbench.registry` (see README.md)."""
