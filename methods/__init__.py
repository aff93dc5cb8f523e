"""The methods: one folder each, independent of one another, found by `ltbench.contract.registry` (see README.md)."""
