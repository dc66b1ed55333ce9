"""One run: its components, its stages, and its results."""
