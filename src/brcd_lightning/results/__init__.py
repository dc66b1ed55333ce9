"""Results of runs: the record, the options that identify a run, the table of runs and the gallery."""
