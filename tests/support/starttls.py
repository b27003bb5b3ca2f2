"""The plain-text dialogues of STARTTLS, and servers that follow them."""

import ssl
import struct
from collections.abc import Sequence
from socket import socket

from tests.support.peers import read_all, receive

Dialogue = tuple[tuple[bytes, bytes], ...]
"""Turns: what the server sends, and what the client answers."""

CLIENT = "[192.0.2.1]"  # the name that a client at that address gives
DOMAIN = "mail.example"

LDAP_REQUEST = bytes.fromhex("301d 020101 7718 8016") + b"1.3.6.1.4.1.1466.20037"


def ldap_response(code: int, text: bytes = b"", id: int = 1, operation: int = 0x78) -> bytes:
    """A response of RFC 4511, an extended one by default, as slapd writes it."""
    result = bytes([0x0A, 1, code, 4, 0, 4, len(text)]) + text
    message = bytes([2, 1, id, operation, len(result)]) + result
    return bytes([0x30, len(message)]) + message


def mysql_packet(payload: bytes, number: int = 0) -> bytes:
    """A packet of MySQL's protocol."""
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


def mysql_greeting(capabilities: int = 0xFFFF) -> bytes:
    """The first packet of MariaDB."""
    version = b"\x0a5.5.5-10.11.19-MariaDB\0" + struct.pack("<I", 31) + b"12345678\0"
    rest = struct.pack("<HBHHB", capabilities, 45, 2, 0x81FF, 21) + bytes(10) + b"123456789012\0"
    return mysql_packet(version + rest + b"mysql_native_password\0")


MYSQL_REQUEST = mysql_packet(bytes.fromhex("05aa0800 00000001 2d") + bytes(23), 1)


XMPP_HEADER = (
    b"<?xml version='1.0'?><stream:stream to='%s' version='1.0' xmlns='jabber:client' "
    b"xmlns:stream='http://etherx.jabber.org/streams'>"
)
XMPP_TLS = b"xmlns='urn:ietf:params:xml:ns:xmpp-tls'"
XMPP_STREAM = (
    b"<?xml version='1.0'?>\n<stream:stream xmlns='jabber:client' id='a>b' from='mail.example' xml:lang=\"en\" "
    b"xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
)
XMPP_FEATURES = (
    b"<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>"
    b"<starttls " + XMPP_TLS + b"><required/></starttls></stream:features>"
)


def dialogue(protocol: str, client: str = CLIENT, domain: str = DOMAIN) -> Dialogue:
    """The dialogue of a protocol that ends in TLS."""
    own = client.encode()
    esmtp = ((b"250-mail.example\r\n250-SIZE 10\r\n250-starttls\r\n250 8BITMIME\r\n", b"STARTTLS\r\n"),)
    return {
        "smtp": ((b"220-mail.example\r\n220 ESMTP\r\n", b"EHLO " + own + b"\r\n"), *esmtp, (b"220 go\r\n", b"")),
        "lmtp": ((b"220 mail.example LMTP\r\n", b"LHLO " + own + b"\r\n"), *esmtp, (b"220 2.0.0 go\r\n", b"")),
        "imap": (
            (b"* OK [CAPABILITY IMAP4rev1] {3}\r\na\nb ready\r\n", b"a CAPABILITY\r\n"),
            (b"* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\na OK done\r\n", b"b STARTTLS\r\n"),
            (b"* OK by the way\r\nb OK begin TLS\r\n", b""),
        ),
        "pop3": (
            (b"+OK POP3 <1896.697170952@mail.example>\r\n", b"CAPA\r\n"),
            (b"+OK\r\nUSER\r\nSTLS\r\n.\r\n", b"STLS\r\n"),
            (b"+OK begin TLS\r\n", b""),
        ),
        "ftp": ((b"220-Welcome\r\n 220 files\r\nof all kinds\r\n220 ready\r\n", b"AUTH TLS\r\n"), (b"234 go\r\n", b"")),
        "nntp": (
            (b"201 news, no posting\r\n", b"CAPABILITIES\r\n"),
            (b"101 list\r\nVERSION 2\r\nSTARTTLS\r\n.\r\n", b"STARTTLS\r\n"),
            (b"382 go\r\n", b""),
        ),
        "sieve": (
            (
                b'"IMPLEMENTATION" {9}\r\nOK "a" \r\nb\r\n"SIEVE" "fileinto"\r\n"STARTTLS"\r\nOK "ready"\r\n',
                b"STARTTLS\r\n",
            ),
            (b'OK "go"\r\n', b""),
        ),
        "ldap": ((b"", LDAP_REQUEST), (ldap_response(0), b"")),
        "xmpp": (
            (b"", XMPP_HEADER % domain.encode()),
            (XMPP_STREAM + XMPP_FEATURES, b"<starttls " + XMPP_TLS + b"/>"),
            (b"<proceed " + XMPP_TLS + b"/>", b""),
        ),
        "irc": (
            (b"", b"STARTTLS\r\n"),
            (b":irc.example NOTICE * :*** Looking up your host\r\nPING :1\r\n", b"PONG :1\r\n"),
            (b"@time=1 :irc.example 670 * :begin TLS\r\n", b""),
        ),
        "postgres": ((b"", struct.pack("!II", 8, 80877103)), (b"S", b"")),
        "mysql": ((mysql_greeting(), MYSQL_REQUEST),),
    }[protocol]


def speak(sock: socket, turns: Sequence[tuple[bytes, bytes]]) -> None:
    """Be the server of a dialogue. Fails if the client sends anything else."""
    for ours, theirs in turns:
        sock.sendall(ours)
        came = receive(sock, len(theirs))
        assert came == theirs, came


def secured_echo(sock: socket, turns: Dialogue, context: ssl.SSLContext) -> bytes:
    """Be a server: the dialogue, the handshake, and then send back all data after a ``>``."""
    speak(sock, turns)
    with context.wrap_socket(sock, server_side=True) as secured:
        data = read_all(secured)
        secured.sendall(b">" + data)
        secured.unwrap()
        return data
