"""Trained models as encoders: images in, packed codes out, without a configuration or a data set."""
