"""Training: from images without labels to an encoder. One file per method."""

from shiftbench.trainers.run import fit, train

__all__ = ["fit", "train"]
