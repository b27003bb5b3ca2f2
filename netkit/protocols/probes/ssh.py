"""The probe of SSH servers (RFC 4253)."""

import re

from netkit.protocols.dialogue import Malformed, Names, NotReady, Steps, line, quoted

_IDENTIFICATION = re.compile(rb"SSH-(?:2\.0|1\.99)-[ -~]*")  # sections 4.2 and 5.1
# Other lines may come before it (section 4.2), but not these, with which other protocols answer.
_OTHER = re.compile(rb"HTTP/|[1-5][0-9][0-9][ -]|[+*-]|SSH-")
_NO_TEXT = re.compile(rb"[^\n]*?[\0-\x08\x0e-\x1f\x7f]")
_ENOUGH = 32  # bytes that are checked for binary protocols before a line has ended
# What OpenSSH sends in place of it to a client that it refuses: MaxStartups, PerSourcePenalties.
_REFUSALS = (b"Exceeded MaxStartups", b"Not allowed at this time")


def ssh(names: Names) -> Steps[str]:
    """Exchange identifications, and close: sshd logs one line for that, and two for a SSH_MSG_DISCONNECT."""
    yield b"SSH-2.0-netkit\r\n"
    while not _IDENTIFICATION.fullmatch(said := (yield _text).rstrip(b"\r\n")):
        if said in _REFUSALS:
            raise NotReady(quoted(said))
        if _OTHER.match(said) or _NO_TEXT.match(said):
            raise Malformed(said)
    return ""


def _text(data: bytes) -> int:
    """The Frame of a line of text."""
    if _NO_TEXT.match(data[:_ENOUGH]):
        raise Malformed(data.partition(b"\n")[0])
    return line(data)
