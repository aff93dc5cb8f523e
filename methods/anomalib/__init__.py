"""Any image model of the package anomalib, fitted and asked through its own Engine."""
