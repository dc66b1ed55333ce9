"""Deployment of trained models: encoders, codes of image collections, indexes, databases, export and a server."""
