"""Numbers about partitions: against labels (external), against each other (agreement), across shifts (robustness)."""
