"""Hashing models: a head on backbone features and its unsupervised objective, one file each."""
