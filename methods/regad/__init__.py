"""RegAD: features of images of one category are registered, and a few supports of a category say what is normal."""
