"""Dinomaly: a loose reconstruction of a frozen vision transformer's tokens."""
