"""Several processes that train together: one batch, one speaker, random streams that depend on neither."""
