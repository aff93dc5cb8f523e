"""ltbench: a benchmark suite for long-tailed and noisy visual anomaly detection."""

__version__ = "0.1.0"
