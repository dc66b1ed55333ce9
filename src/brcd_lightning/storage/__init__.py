"""Atomic file writes, checkpoints, locks, and the names of components and options in files."""
