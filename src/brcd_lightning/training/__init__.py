"""Training with Lightning: modules, callbacks, loggers and the evaluation of whole splits."""
