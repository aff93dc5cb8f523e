"""RLR: transformers that rebuild each feature level from a learnt reference."""
