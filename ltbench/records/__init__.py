"""What lies on disk of runs that were done or failed."""
