"""What each command does: handlers for connections, receivers of datagrams, changes of bytes, fetches, port checks."""
