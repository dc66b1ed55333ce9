"""Hash codes in databases: upload and search."""
