"""TailedCore, and TailSampler, the estimator of category sizes at its heart."""

from .tail_sampler import TailSampler

__all__ = ["TailSampler"]
