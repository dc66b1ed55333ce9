"""What a machine with one GPU can say about this project: `python -m benchmarks.gpu`, see its help."""
