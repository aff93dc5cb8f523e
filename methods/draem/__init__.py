"""DRAEM: synthetic defects, a network that takes them away and another that finds where they were."""
