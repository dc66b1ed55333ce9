"""Features of frozen backbones, computed once, stored and read by row."""
