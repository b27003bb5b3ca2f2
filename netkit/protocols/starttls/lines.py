"""STARTTLS in line-based protocols: SMTP, LMTP, FTP, NNTP, POP3, IMAP, ManageSieve and IRC."""

import re

from netkit.protocols.dialogue import Malformed, Names, Refused, Steps, read_line, refused
from netkit.protocols.replies import (
    first_word,
    read_greeting,
    read_line_with_literals,
    read_reply,
    read_status,
    read_tagged,
)
from netkit.protocols.starttls.dialogue import NOT_OFFERED

_IRC = re.compile(rb"(?:@\S+ +)?(?::\S+ +)?([A-Za-z]+|[0-9]{3})(?: (.*))?", re.DOTALL)


# -- replies with codes


def smtp(names: Names, hello: bytes = b"EHLO") -> Steps[None]:
    """RFC 3207."""
    yield from read_reply(b"220", "the connection")
    yield hello + b" " + names.client.encode() + b"\r\n"
    _, *offers = yield from read_reply(b"250", hello.decode())
    if b"STARTTLS" not in {first_word(offer[4:]) for offer in offers}:
        raise Refused(NOT_OFFERED)
    yield b"STARTTLS\r\n"
    yield from read_reply(b"220", "STARTTLS")


def lmtp(names: Names) -> Steps[None]:
    """RFC 2033: SMTP with another first word."""
    return smtp(names, b"LHLO")


def ftp(names: Names) -> Steps[None]:
    """RFC 4217, section 4."""
    greeting, *_ = yield from read_reply(b"120 220", "the connection", strict=False)
    if greeting.startswith(b"120"):  # ready in some minutes
        yield from read_reply(b"220", "the connection", strict=False)
    yield b"AUTH TLS\r\n"
    yield from read_reply(b"234", "AUTH TLS", strict=False)


def nntp(names: Names) -> Steps[None]:
    """RFC 4642. STARTTLS is tried even if the server does not know CAPABILITIES."""
    yield from read_reply(b"200 201", "the connection")
    yield b"CAPABILITIES\r\n"
    answer, *_ = yield from read_reply(b"101 500", "CAPABILITIES")
    if answer.startswith(b"101") and b"STARTTLS" not in (yield from _listed()):
        raise Refused(NOT_OFFERED)
    yield b"STARTTLS\r\n"
    yield from read_reply(b"382", "STARTTLS")


# -- words


def pop3(names: Names) -> Steps[None]:
    """RFC 2595, section 4. STLS is tried even if the server does not know CAPA (RFC 2449)."""
    yield from read_status("the connection")
    yield b"CAPA\r\n"
    if (yield from read_status()) and b"STLS" not in (yield from _listed()):
        raise Refused(NOT_OFFERED)
    yield b"STLS\r\n"
    yield from read_status("STLS")


def imap(names: Names) -> Steps[None]:
    """RFC 9051, section 6.2.1."""
    if (yield from read_greeting()) == b"PREAUTH":
        raise Refused("it greets with PREAUTH, after which TLS cannot begin")
    yield b"a CAPABILITY\r\n"
    answers = yield from read_tagged(b"a", "CAPABILITY")
    offers = [answer.upper().split() for answer in answers]
    if not any(words[1:2] == [b"CAPABILITY"] and b"STARTTLS" in words for words in offers):
        raise Refused(NOT_OFFERED)
    yield b"b STARTTLS\r\n"
    yield from read_tagged(b"b", "STARTTLS")


def sieve(names: Names) -> Steps[None]:
    """RFC 5804, section 2.2. The server tells its capabilities first, and once more when TLS stands."""
    if b'"STARTTLS"' not in (yield from _sieve_response("the connection")):
        raise Refused(NOT_OFFERED)
    yield b"STARTTLS\r\n"
    yield from _sieve_response("STARTTLS")


def irc(names: Names) -> Steps[None]:
    """The tls extension of IRCv3: numerics 670 and 691. Servers send notices about look-ups of the client before."""
    yield b"STARTTLS\r\n"
    while True:
        line = yield from read_line()
        if not (match := _IRC.fullmatch(line)):
            raise Malformed(line)
        command, parameters = match[1].upper(), match[2] or b""
        if command == b"670":
            return
        if command == b"PING":
            yield b"PONG " + parameters + b"\r\n"
        elif command == b"ERROR" or command[:1] in b"456789":
            raise refused("STARTTLS", line)


def _listed() -> Steps[set[bytes]]:
    """Read lines up to one with a dot; return their first words."""
    words = set()
    while (line := (yield from read_line())) != b".":
        words.add(first_word(line))
    return words


def _sieve_response(what: str) -> Steps[set[bytes]]:
    """Read lines up to OK; return their first words. Raises Refused, with ``what`` was asked for, for NO and BYE."""
    words: set[bytes] = set()
    while True:
        line = yield from read_line_with_literals()
        word = first_word(line)
        if word == b"OK":
            return words
        if word in (b"NO", b"BYE"):
            raise refused(what, line)
        if not word.startswith((b'"', b"{")):
            raise Malformed(line)
        words.add(word)
