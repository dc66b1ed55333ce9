"""Checks and measurements on a machine with one GPU: `python -m benchmarks.gpu`, see its help."""
