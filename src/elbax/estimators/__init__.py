"""Gradient estimators: one file per method, the rule that chooses, the surrogate loss, the laboratory."""
