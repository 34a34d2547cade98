"""Scores of partitions: with labels, without, among themselves, across shifts, and under other images."""
