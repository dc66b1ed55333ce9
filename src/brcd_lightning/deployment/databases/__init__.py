"""Codes in databases: pushing them there, and searching them there."""
