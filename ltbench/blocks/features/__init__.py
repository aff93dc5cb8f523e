"""From images to feature maps, tokens and patches, computed once and kept on disk."""
