"""Trained models in use: encoders, codes of many images, indexes, exported files and a server."""
