"""One training loop with checkpoints, and what it draws."""
