"""Records and published numbers to tables; `ltbench.render` makes text of them."""
