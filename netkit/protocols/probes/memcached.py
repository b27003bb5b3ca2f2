"""The probe of memcached (text protocol, https://github.com/memcached/memcached/blob/master/doc/protocol.txt)."""

from netkit.protocols.dialogue import Malformed, Names, NotReady, Steps, quoted, read_line

_ERRORS = (b"SERVER_ERROR ", b"ERROR Too many open connections")


def memcached(names: Names) -> Steps[str]:
    """The command "version", which does not touch the cache. A server with ASCII authentication refuses it."""
    yield b"version\r\n"
    answer = yield from read_line(b"VERSION ", b"CLIENT_ERROR unauthenticated", *_ERRORS)
    if answer.startswith(_ERRORS):
        raise NotReady(quoted(answer))
    if answer == b"CLIENT_ERROR unauthenticated":
        result = "it wants a password"
    elif answer.startswith(b"VERSION "):
        result = ""
    else:
        raise Malformed(answer)
    yield b"quit\r\n"
    return result
