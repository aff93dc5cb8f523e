"""AnomalyGPT without its language model: patches against prompts, trained on simulated anomalies."""
