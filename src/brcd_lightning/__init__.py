"""Unsupervised image hashing with knowledge distillation, on Lightning and Hydra."""

__version__ = "0.1.0"
