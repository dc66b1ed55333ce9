"""Sweeps of many runs: launchers, hyper-parameter search, and the table at the end."""
