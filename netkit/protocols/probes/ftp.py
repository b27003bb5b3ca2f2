"""The probe of FTP servers (RFC 959)."""

from netkit.protocols.dialogue import Malformed, Names, NotReady, Steps, quoted
from netkit.protocols.replies import read_reply

_SMTP = b"250"  # the reply to NOOP of an SMTP server, which also greets with 220


def ftp(names: Names) -> Steps[str]:
    """Read the greeting, and send NOOP, which may be refused before the login: sections 4.1.3 and 5.4."""
    if not names.greeted:
        greeting = yield from read_reply(b"120 220", "the connection", strict=False)
        if greeting[0].startswith(b"120"):
            raise NotReady(quoted(b" ".join(greeting)))
    yield b"NOOP\r\n"
    answer = yield from read_reply(b"200 202 250 500 501 502 503 530", "NOOP", strict=False)
    if answer[0].startswith(_SMTP):
        raise Malformed(answer[0])
    yield b"QUIT\r\n"
    return ""
