"""Hashing models: a head on backbone features with an unsupervised objective, one file per model."""
