"""UniAD: a transformer that rebuilds features, without looking at neighbours and without a way to copy them."""
