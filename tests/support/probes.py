"""Dialogues without a peer: their outcome for given answers, and what ready servers say to probes."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from netkit.protocols.dialogue import Conversation, Names, Refused
from netkit.protocols.probes.table import PROBES
from tests.support.binary import BINARY

NAMES = Names("mail.example", "[192.0.2.1]")

# Functions that make an answer from a request and bytes, for protocols with a random request id.
FITTING: dict[str, Callable[[bytes, bytes], bytes]] = {
    "dns": lambda request, data: request[:2] + data,
    "ntp": lambda request, data: data[:24] + request[40:48] + data[24:],
}

INFO = b'INFO {"server_id":"N","version":"2.9.10","max_payload":1048576} \r\n'
ESMTP = b"220-mail.example\r\n220 ESMTP\r\n250-mail.example\r\n250-SIZE 10\r\n250 8BITMIME\r\n"
SSH = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10\r\n"

# What a server that is ready sends, up to the byte that shows it, and a pattern of what it receives.
READY = {
    **BINARY,
    "redis": (b"+PONG\r\n", rb"PING\r\nQUIT\r\n"),
    "memcached": (b"VERSION 1.6.18\r\n", rb"version\r\nquit\r\n"),
    "nats": (INFO + b"+OK\r\nPING\r\n" + INFO + b"PONG\r\n", rb"CONNECT \{.*\}\r\nPING\r\nPONG\r\n"),
    "mqtt": (b"\x20\x02\x00\x00", rb"\x10\x22\0\x04MQTT\x04\x02\x00\x3c\x00\x16netkit[0-9a-f]{16}\xe0\x00"),
    "smtp": (ESMTP, rb"EHLO \[192.0.2.1\]\r\nQUIT\r\n"),
    "lmtp": (ESMTP, rb"LHLO \[192.0.2.1\]\r\nQUIT\r\n"),
    "imap": (b"* OK {3}\r\na\nb ready\r\n* 3 EXISTS\r\na OK done\r\n", rb"a NOOP\r\nb LOGOUT\r\n"),
    "pop3": (b"+OK POP3 <1896.697170952@mail.example>\r\n+OK bye\r\n", rb"QUIT\r\n"),
    "ftp": (b"220-Welcome\r\n 220 files\r\nof all kinds\r\n220 ready\r\n530 login first\r\n", rb"NOOP\r\nQUIT\r\n"),
    "ssh": (SSH, rb"SSH-2.0-netkit\r\n"),
}
# The answers over UDP, without their random parts.
READY_DATAGRAMS = {
    "dns": bytes.fromhex("8180 0001 0000 0000 0000 00 0002 0001"),
    "ntp": bytes([0x24, 2]) + bytes(10) + b"\x7f\x7f\x01\x01" + bytes(24),
}


class Outcome(NamedTuple):
    """``ready``, ``waits`` for more data, or the name of the exception; the result or the reason; and what was sent."""

    kind: str
    words: Any = ""
    said: bytes = b""


def outcome_of(conversation: Conversation[Any], pieces: Iterable[bytes]) -> Outcome:
    """The outcome of a dialogue that receives these pieces, or datagrams."""
    said = b""
    try:
        for piece in pieces:
            said += conversation.receive(piece)
    except Refused as error:
        return Outcome(type(error).__name__, str(error), said + error.reply)
    return Outcome("ready", conversation.result, said) if conversation.done else Outcome("waits", "", said)


def outcome(name: str, pieces: Iterable[bytes], names: Names = NAMES) -> Outcome:
    """The outcome of a probe. Datagrams are made to fit its request."""
    conversation = Conversation(PROBES[name].begin(names))
    if name not in FITTING:
        return outcome_of(conversation, [b"", *pieces])
    request = outcome_of(conversation, [b""]).said
    found = outcome_of(conversation, [FITTING[name](request, piece) for piece in pieces])
    return found._replace(said=request + found.said)


def bytes_of(data: bytes) -> list[bytes]:
    """The single bytes of ``data``, the worst fragmentation by a network."""
    return [data[place : place + 1] for place in range(len(data))]
