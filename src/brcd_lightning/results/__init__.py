"""What a run leaves: its record, which options identify it, the table of runs and the gallery."""
