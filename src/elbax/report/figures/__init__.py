"""Drawings of the facts: plain data in, a Matplotlib figure out."""
