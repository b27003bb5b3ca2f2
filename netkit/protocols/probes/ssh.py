"""SSH (RFC 4253)."""

import re

from netkit.protocols.dialogue import Malformed, Names, NotReady, Steps, line, quoted

_IDENTIFICATION = re.compile(rb"SSH-(?:2\.0|1\.99)-[ -~]*")  # sections 4.2 and 5.1
# Lines of text may come before it (section 4.2), but not these: other protocols answer so.
_OTHER = re.compile(rb"HTTP/|[1-5][0-9][0-9][ -]|[+*-]|SSH-")
_NO_TEXT = re.compile(rb"[^\n]*?[\0-\x08\x0e-\x1f\x7f]")
_ENOUGH = 32  # bytes by which other protocols are known before a line has ended
# What OpenSSH says in their place to those it does not take: too many, or too bad, at a time.
_REFUSALS = (b"Exceeded MaxStartups", b"Not allowed at this time")


def ssh(names: Names) -> Steps[str]:
    """Both sides identify themselves, and part: sshd has one line for that in its log, and two for a disconnect."""
    yield b"SSH-2.0-netkit\r\n"
    while not _IDENTIFICATION.fullmatch(said := (yield _text).rstrip(b"\r\n")):
        if said in _REFUSALS:
            raise NotReady(quoted(said))
        if _OTHER.match(said) or _NO_TEXT.match(said):
            raise Malformed(said)
    return ""


def _text(data: bytes) -> int:
    """The frame of a line of text."""
    if _NO_TEXT.match(data[:_ENOUGH]):
        raise Malformed(data.partition(b"\n")[0])
    return line(data)
