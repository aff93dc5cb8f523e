"""CutPaste: images against images in which a piece was cut out and pasted elsewhere."""
