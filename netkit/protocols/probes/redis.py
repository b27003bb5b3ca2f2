"""Redis, and others that speak its protocol (RESP)."""

from netkit.protocols.dialogue import Malformed, Names, NotReady, Steps, quoted, read_line

# A password is wanted: the server works. The last is what servers before 2.8 say.
_ALIVE = (b"-NOAUTH", b"-NOPERM", b"-ERR operation not permitted")


def redis(names: Names) -> Steps[str]:
    """PING (https://redis.io/docs/latest/commands/ping/): PONG is ready.

    Any error but those of a client without password says what is not ready: LOADING, MASTERDOWN, BUSY, MISCONF, DENIED
    of protected mode, "ERR max number of clients reached".
    """
    yield b"PING\r\n"
    answer = yield from read_line(b"+PONG", b"-")
    if answer.startswith(_ALIVE):
        result = "it wants a password"
    elif answer.startswith(b"-"):
        raise NotReady(quoted(answer[1:]))
    elif answer == b"+PONG":
        result = ""
    else:
        raise Malformed(answer)
    yield b"QUIT\r\n"
    return result
