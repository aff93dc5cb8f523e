"""Which training images are of rare categories: what methods that guess it share."""
