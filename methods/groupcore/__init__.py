"""GroupCore: a memory bank of groups of like images, odd images left out, small groups seen from all sides."""

from .group_sampler import GroupSampler as GroupSampler
