"""Bounds on log p(x): a model and a guide as a program."""
