"""TailedCore, and TailSampler, the estimator of category sizes at its heart."""

from methods.tailedcore.tail_sampler import TailSampler

__all__ = ["TailSampler"]
