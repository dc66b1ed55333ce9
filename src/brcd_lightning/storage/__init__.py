"""Files that are whole or absent, checkpoints, and the names that files give to components."""
