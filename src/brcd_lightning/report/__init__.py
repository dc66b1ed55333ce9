"""Tables and figures over many runs."""
