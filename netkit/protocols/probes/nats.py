"""The probe of NATS servers (https://docs.nats.io/reference/reference-protocols/nats-protocol)."""

from netkit.protocols.dialogue import Malformed, Names, NotReady, Steps, quoted, read_line

_CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"name":"netkit","lang":"python","version":"1","protocol":1}\r\n'


def nats(names: Names) -> Steps[str]:
    """Send CONNECT and PING after INFO. PONG means ready.

    A server that wants a password or TLS says so in INFO. Nothing is sent to it, as that would count as a failed login.
    """
    info = _object_of((yield from _read(b"INFO ")))
    if info.get("ldm"):
        raise NotReady("it is in lame duck mode")
    if info.get("tls_required"):
        return "it wants TLS"
    if info.get("auth_required"):
        return "it wants a password"
    yield _CONNECT + b"PING\r\n"
    while (answer := (yield from _read(b"PONG", b"PING", b"+OK", b"INFO "))) != b"PONG":
        if answer == b"PING":
            yield b"PONG\r\n"
        elif answer != b"+OK" and not answer.startswith(b"INFO "):
            raise Malformed(answer)
    return ""


def _read(*beginnings: bytes) -> Steps[bytes]:
    """Read the next line, which must have one of these beginnings. Raises NotReady if it is an error."""
    answer = yield from read_line(*beginnings, b"-ERR")
    if answer.startswith(b"-ERR"):
        raise NotReady(quoted(answer[4:]).strip("'"))
    return answer


def _object_of(info: bytes) -> dict[str, object]:
    import json

    try:
        found = json.loads(info[5:])
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Malformed(info)
    return found
