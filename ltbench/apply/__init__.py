"""Score images that belong to no split with a method that a run has fitted and saved."""
