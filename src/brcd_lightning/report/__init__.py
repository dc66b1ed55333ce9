"""What runs have found, together: tables over many run folders."""
