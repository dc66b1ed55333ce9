"""Figures of a report: each takes the records and returns a figure, or says what the runs lack."""
