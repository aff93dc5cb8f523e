"""HVQ-Trans: a transformer that rebuilds features from the codes that quantisers of each category know."""
