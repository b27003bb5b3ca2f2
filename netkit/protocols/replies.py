"""Reading the replies of line-based protocols, for STARTTLS and probes: SMTP, FTP and NNTP, POP3, IMAP."""

import re

from netkit.protocols.dialogue import Malformed, Steps, line, line_beginning, read_exactly, read_line, refused

_REPLY = re.compile(rb"[1-5][0-9][0-9](?:[ -].*)?", re.DOTALL)
_LITERAL = re.compile(rb"\{([0-9]{1,9})\+?\}\r?\n$")


def first_word(said: bytes) -> bytes:
    """The first word of a line, in upper case; b"" if the line is empty."""
    return said.upper().split(None, 1)[0] if said.strip() else b""


def read_reply(wanted: bytes, what: str, *, strict: bool = True) -> Steps[list[bytes]]:
    """Read a reply, and return its lines (RFC 5321, section 4.2.1). ``wanted`` are codes, separated by blanks.

    For any other code it raises Refused, with ``what`` was asked for. Unless ``strict``, the lines between the first
    and the last may have any form (RFC 959, section 4.2).
    """
    said = yield from read_line(b"1", b"2", b"3", b"4", b"5")
    if not _REPLY.fullmatch(said):
        raise Malformed(said)
    code, lines = said[:3], [said]
    while not (said.startswith(code) and said[3:4] in (b" ", b"")):
        said = yield from read_line()
        if strict and not (said.startswith(code) and _REPLY.fullmatch(said)):
            raise Malformed(said)
        lines.append(said)
    if code not in wanted.split():
        raise refused(what, b" ".join(lines))
    return lines


def read_status(needed: str = "") -> Steps[bool]:
    """Read an answer of POP3: whether it is ``+OK``. For ``-ERR`` raises Refused if ``needed`` names what was asked."""
    said = yield from read_line(b"+", b"-")
    word = first_word(said)
    if word not in (b"+OK", b"-ERR"):
        raise Malformed(said)
    if needed and word == b"-ERR":
        raise refused(needed, said)
    return word == b"+OK"


def read_greeting() -> Steps[bytes]:
    """Read the greeting of an IMAP server, OK or PREAUTH. Raises Refused for BYE (RFC 9051, section 7.1)."""
    said = yield from read_line_with_literals(b"*")
    words = said.upper().split(None, 2)
    if words[:2] == [b"*", b"BYE"]:
        raise refused("the connection", said)
    if words[:1] != [b"*"] or words[1:2] not in ([b"OK"], [b"PREAUTH"]):
        raise Malformed(said)
    return words[1]


def read_tagged(tag: bytes, what: str) -> Steps[list[bytes]]:
    """Read IMAP lines up to the OK for the command with this tag; return those before. Refused for NO, BAD and BYE."""
    lines: list[bytes] = []
    while True:
        said = yield from read_line_with_literals(b"*", tag.upper(), tag.lower())
        words = said.upper().split(None, 2)
        if words[:1] == [tag.upper()]:
            if words[1:2] != [b"OK"]:
                raise refused(what, said)
            return lines
        if words[:1] != [b"*"]:
            raise Malformed(said)
        if words[1:2] == [b"BYE"]:
            raise refused(what, said)
        lines.append(said)


def read_line_with_literals(*beginnings: bytes) -> Steps[bytes]:
    """Read a line with its literals, which follow their length, ``{3}`` or ``{3+}``: RFC 9051, section 4.3."""
    parts = [(yield line_beginning(*beginnings))]
    while literal := _LITERAL.search(parts[-1]):
        parts.append((yield from read_exactly(int(literal[1]))))
        parts.append((yield line))
    return b"".join(parts).rstrip(b"\r\n")
