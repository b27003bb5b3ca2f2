"""Redis, and others that speak its protocol (RESP)."""

from netkit.protocols.dialogue import Malformed, Names, NotReady, Steps, read_line

_ALIVE = (b"NOAUTH", b"NOPERM")  # a password is wanted: the server works
_NOT_READY = (b"LOADING", b"MASTERDOWN", b"BUSY", b"CLUSTERDOWN", b"ERR max")


def redis(names: Names) -> Steps[str]:
    """PING, as https://redis.io/docs/latest/commands/ping/ has it: PONG is ready, an error says what is not."""
    yield b"PING\r\n"
    answer = yield from read_line()
    if answer == b"+PONG":
        result = ""
    elif answer.startswith(b"-") and answer[1:].startswith(_ALIVE):
        result = "it wants a password"
    elif answer.startswith(b"-") and answer[1:].startswith(_NOT_READY):
        raise NotReady(answer[1:].decode("utf-8", "backslashreplace"))
    else:
        raise Malformed(answer)
    yield b"QUIT\r\n"
    return result
