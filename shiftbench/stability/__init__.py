"""How stable a clustering is: agreement along one axis at a time, and the number of clusters it speaks for."""

from shiftbench.stability.axes import AXES, Agreement, Axis
from shiftbench.stability.choose_k import CRITERIA, Choice, choose_k

__all__ = ["AXES", "CRITERIA", "Agreement", "Axis", "Choice", "choose_k"]
