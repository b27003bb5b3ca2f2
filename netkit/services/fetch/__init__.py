"""Fetching http and https URLs, to stdout or to files."""
