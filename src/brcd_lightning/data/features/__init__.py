"""Features of frozen backbones, stored once and read by row."""
