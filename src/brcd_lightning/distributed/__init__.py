"""Training in several processes: gathered batches, output by one process, and random streams independent of both."""
