"""From images to features, and features kept on disk."""

from shiftbench.features.cache import FeatureCache
from shiftbench.features.encode import encode

__all__ = ["FeatureCache", "encode"]
