"""Scoring: each image is encoded once, clusters are frozen and refitted, each cell is written as soon as it is known."""

from shiftbench.evaluation.evaluate import evaluate

__all__ = ["evaluate"]
