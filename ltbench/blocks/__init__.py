"""Parts that methods share by composition."""
