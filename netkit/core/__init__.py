"""The kernel, streams, sockets, TLS and datagrams, on the standard library alone. It prints nothing."""
