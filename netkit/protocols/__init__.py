"""Protocols without I/O, of libraries, run over our streams and datagrams."""
