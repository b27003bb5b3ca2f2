"""How a port check is written: a file for each format."""
