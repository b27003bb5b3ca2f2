"""STARTTLS in protocols of lines: mail, news, files and chat."""

import re

from netkit.protocols.dialogue import Malformed, Names, Refused, Steps, read_line, refused
from netkit.protocols.starttls.dialogue import NOT_OFFERED, Dialogue

_REPLY = re.compile(rb"[1-5][0-9][0-9](?:[ -].*)?", re.DOTALL)
_LITERAL = re.compile(rb"\{([0-9]{1,9})\+?\}\r?\n$")
_IRC = re.compile(rb"(?:@\S+ +)?(?::\S+ +)?([A-Za-z]+|[0-9]{3})(?: (.*))?", re.DOTALL)


# -- replies with codes


def smtp(names: Names, hello: bytes = b"EHLO") -> Dialogue:
    """RFC 3207."""
    yield from _reply(b"220", "the connection")
    yield hello + b" " + names.client.encode() + b"\r\n"
    _, *offers = yield from _reply(b"250", hello.decode())
    if b"STARTTLS" not in {_first_word(offer[4:]) for offer in offers}:
        raise Refused(NOT_OFFERED)
    yield b"STARTTLS\r\n"
    yield from _reply(b"220", "STARTTLS")


def lmtp(names: Names) -> Dialogue:
    """RFC 2033: SMTP with another first word."""
    return smtp(names, b"LHLO")


def ftp(names: Names) -> Dialogue:
    """RFC 4217, section 4."""
    if (yield from _reply(b"120 220", "the connection", strict=False))[0].startswith(b"120"):  # ready in some minutes
        yield from _reply(b"220", "the connection", strict=False)
    yield b"AUTH TLS\r\n"
    yield from _reply(b"234", "AUTH TLS", strict=False)


def nntp(names: Names) -> Dialogue:
    """RFC 4642. A server that does not know CAPABILITIES is asked all the same."""
    yield from _reply(b"200 201", "the connection")
    yield b"CAPABILITIES\r\n"
    answer, *_ = yield from _reply(b"101 500", "CAPABILITIES")
    if answer.startswith(b"101") and b"STARTTLS" not in (yield from _listed()):
        raise Refused(NOT_OFFERED)
    yield b"STARTTLS\r\n"
    yield from _reply(b"382", "STARTTLS")


def _reply(wanted: bytes, what: str, *, strict: bool = True) -> Steps[list[bytes]]:
    """The lines of a reply that has one of the ``wanted`` codes (RFC 5321, section 4.2.1).

    Unless ``strict``, lines before the last may look like anything (RFC 959, section 4.2).
    """
    line = yield from read_line()
    if not _REPLY.fullmatch(line):
        raise Malformed(line)
    code, lines = line[:3], [line]
    while not (line.startswith(code) and line[3:4] in (b" ", b"")):
        line = yield from read_line()
        if strict and not (line.startswith(code) and _REPLY.fullmatch(line)):
            raise Malformed(line)
        lines.append(line)
    if code not in wanted.split():
        raise refused(what, b" ".join(lines))
    return lines


# -- words


def pop3(names: Names) -> Dialogue:
    """RFC 2595, section 4. A server that does not know CAPA (RFC 2449) is asked all the same."""
    yield from _pop3_answer("the connection")
    yield b"CAPA\r\n"
    if (yield from _pop3_answer()) and b"STLS" not in (yield from _listed()):
        raise Refused(NOT_OFFERED)
    yield b"STLS\r\n"
    yield from _pop3_answer("STLS")


def imap(names: Names) -> Dialogue:
    """RFC 9051, section 6.2.1."""
    greeting = yield from _line_with_literals()
    words = greeting.upper().split(None, 2)
    if words[:2] == [b"*", b"PREAUTH"]:
        raise Refused("it greets with PREAUTH, after which TLS cannot begin")
    if words[:2] != [b"*", b"OK"]:
        raise refused("the connection", greeting) if words[:2] == [b"*", b"BYE"] else Malformed(greeting)
    yield b"a CAPABILITY\r\n"
    answers = yield from _untagged(b"a", "CAPABILITY")
    offers = [answer.upper().split() for answer in answers]
    if not any(words[1:2] == [b"CAPABILITY"] and b"STARTTLS" in words for words in offers):
        raise Refused(NOT_OFFERED)
    yield b"b STARTTLS\r\n"
    yield from _untagged(b"b", "STARTTLS")


def sieve(names: Names) -> Dialogue:
    """RFC 5804, section 2.2. The server tells its capabilities first, and once more when TLS stands."""
    if b'"STARTTLS"' not in (yield from _sieve_response("the connection")):
        raise Refused(NOT_OFFERED)
    yield b"STARTTLS\r\n"
    yield from _sieve_response("STARTTLS")


def irc(names: Names) -> Dialogue:
    """The tls extension of IRCv3: numerics 670 and 691. Servers look the client up meanwhile, and say so."""
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


def _first_word(line: bytes) -> bytes:
    return line.upper().split(None, 1)[0] if line.strip() else b""


def _listed() -> Steps[set[bytes]]:
    """The first words of lines up to one with a dot."""
    words = set()
    while (line := (yield from read_line())) != b".":
        words.add(_first_word(line))
    return words


def _pop3_answer(needed: str = "") -> Steps[bool]:
    """Whether the answer is ``+OK`` and not ``-ERR``; it has to be, if what was asked for is ``needed``."""
    line = yield from read_line()
    word = _first_word(line)
    if word not in (b"+OK", b"-ERR"):
        raise Malformed(line)
    if needed and word == b"-ERR":
        raise refused(needed, line)
    return word == b"+OK"


def _untagged(tag: bytes, what: str) -> Steps[list[bytes]]:
    """What the server says until it answers the command with this tag by OK."""
    lines: list[bytes] = []
    while True:
        line = yield from _line_with_literals()
        words = line.upper().split(None, 2)
        if words[:1] == [tag.upper()]:
            if words[1:2] != [b"OK"]:
                raise refused(what, line)
            return lines
        if words[:1] != [b"*"]:
            raise Malformed(line)
        if words[1:2] == [b"BYE"]:
            raise refused(what, line)
        lines.append(line)


def _sieve_response(what: str) -> Steps[set[bytes]]:
    """The first words of what the server says until it says OK."""
    words: set[bytes] = set()
    while True:
        line = yield from _line_with_literals()
        word = _first_word(line)
        if word == b"OK":
            return words
        if word in (b"NO", b"BYE"):
            raise refused(what, line)
        if not word.startswith((b'"', b"{")):
            raise Malformed(line)
        words.add(word)


def _line_with_literals() -> Steps[bytes]:
    """A line that goes on behind each string whose length it tells: ``{3}``, or ``{3+}`` (RFC 9051, section 4.3)."""
    return (yield _end_of_line_with_literals).rstrip(b"\r\n")


def _end_of_line_with_literals(data: bytes) -> int:
    end = 0
    while newline := data.find(b"\n", end) + 1:
        if not (literal := _LITERAL.search(data[end:newline])):
            return newline
        end = newline + int(literal[1])
        if end > len(data):
            return end
    return 0
