"""Encoders: ours, anyone's checkpoint, and the floors that every comparison needs. One file per source."""

from shiftbench.encoders.base import Encoder
from shiftbench.encoders.load import load_encoder
from shiftbench.encoders.settle import settle

__all__ = ["Encoder", "load_encoder", "settle"]
