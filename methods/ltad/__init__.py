"""LTAD: learnt category names, synthesised features, and semantic scores beside reconstruction errors."""
