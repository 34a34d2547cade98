"""Scores of partitions: with labels (external), among themselves (agreement), across shifts (robustness)."""
