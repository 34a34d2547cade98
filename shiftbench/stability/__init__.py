"""How stable a clustering is: agreement along one axis at a time, and the number of clusters it speaks for."""

from shiftbench.stability.axes import (
    AXES,
    Axis,
    algorithm,
    augmentation,
    bootstrap,
    initialization,
    projection,
    shift,
    training_seed,
)
from shiftbench.stability.choose_k import CRITERIA, Choice, choose_k
from shiftbench.stability.pairs import Agreement

__all__ = [
    "AXES", "CRITERIA", "Agreement", "Axis", "Choice", "algorithm", "augmentation", "bootstrap", "choose_k",
    "initialization", "projection", "shift", "training_seed",
]  # fmt: skip
