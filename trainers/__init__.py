"""Training: from images without labels to an encoder. One file per method."""

from shiftbench.trainers.engine import fit
from shiftbench.trainers.train import train

__all__ = ["fit", "train"]
