"""Getting a URL, to stdout or to a file."""
