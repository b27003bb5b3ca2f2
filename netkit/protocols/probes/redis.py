"""The probe of Redis, and other servers with its protocol (RESP)."""

from netkit.protocols.dialogue import Malformed, Names, NotReady, Steps, quoted, read_line

# A password is required, so the server works. The last is the error of servers before 2.8.
_ALIVE = (b"-NOAUTH", b"-NOPERM", b"-ERR operation not permitted")


def redis(names: Names) -> Steps[str]:
    """Send PING (https://redis.io/docs/latest/commands/ping/). PONG means ready.

    So does an error that asks for a password. After any other it is not ready: LOADING, MASTERDOWN, BUSY, MISCONF,
    DENIED (protected mode), "ERR max number of clients reached".
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
