"""Benchmarks: `make bench` runs them all and writes tables to `benchmarks/results/`."""
