"""Sockets, on the standard library alone: silent, and raising one type of failure."""
