"""Probes of mail servers (SMTP, LMTP, IMAP, POP3): greeting, a harmless command, QUIT or LOGOUT."""

from netkit.protocols.dialogue import Names, Steps
from netkit.protocols.replies import read_greeting, read_reply, read_status, read_tagged


def smtp(names: Names, hello: bytes = b"EHLO") -> Steps[str]:
    """RFC 5321, section 3.1: ready after 220 and 250, not after others, such as 421 and 554."""
    if not names.greeted:
        yield from read_reply(b"220", "the connection")
    yield hello + b" " + names.client.encode() + b"\r\n"
    yield from read_reply(b"250", hello.decode())
    yield b"QUIT\r\n"
    return ""


def lmtp(names: Names) -> Steps[str]:
    """RFC 2033: SMTP with another first word."""
    return smtp(names, b"LHLO")


def imap(names: Names) -> Steps[str]:
    """RFC 9051, sections 6.1.2 and 7.1: a greeting other than BYE, and NOOP, which is allowed before the login."""
    if not names.greeted:
        yield from read_greeting()
    yield b"a NOOP\r\n"
    yield from read_tagged(b"a", "NOOP")
    yield b"b LOGOUT\r\n"
    return ""


def pop3(names: Names) -> Steps[str]:
    """RFC 1939, section 4: +OK is ready. QUIT is the only command, as all others need a login."""
    if not names.greeted:
        yield from read_status("the connection")
    yield b"QUIT\r\n"
    yield from read_status("QUIT")
    return ""
