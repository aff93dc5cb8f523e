"""MKD: a thin student copies four layers of a frozen network; gradients of the difference say where it fails."""
