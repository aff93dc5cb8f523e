"""The pictures of the built-in dataset `shapes`: drawn from signed distances and height maps, in numpy alone."""
