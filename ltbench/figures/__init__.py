"""Figures from records and splits, drawn with matplotlib; `ltbench figure` and the report show them."""
