"""TailedCore with the true tails: its upper bound, which is told the category of each image."""
