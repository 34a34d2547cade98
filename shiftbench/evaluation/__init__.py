"""Scoring: every image encoded once, clustered frozen and refitted, each cell kept the moment it is known."""

from shiftbench.evaluation.evaluate import evaluate

__all__ = ["evaluate"]
