"""Probes: which answers mean that a server is ready, which that it is not, and which are another protocol.

The protocols are those of lines, message queues that begin like them, and datagrams.
"""

import re
import struct

import dns.message
import dns.rcode
import pytest

from netkit.protocols.dialogue import LIMIT
from tests.support.probes import FITTING, INFO, NAMES, READY, READY_DATAGRAMS, SSH, bytes_of, outcome

NOBODY = "it wants a password"
STREAMS = pytest.mark.parametrize("name", READY)


@STREAMS
def test_a_server_that_is_ready(name: str) -> None:
    """The server is ready with its last byte, not before, however its answer is split; the probe says goodbye."""
    said, heard = READY[name]
    for pieces in ([said], bytes_of(said)):
        found = outcome(name, pieces)
        assert (found.kind, found.words) == ("ready", "")
        assert re.fullmatch(heard, found.said), found.said
    for end in range(len(said)):
        assert outcome(name, [said[:end]]).kind == "waits"


@pytest.mark.parametrize(
    ("name", "said", "words"),
    [
        ("redis", b"-NOAUTH Authentication required.\r\n", NOBODY),
        ("redis", b"-NOPERM this user has no permissions to run the 'ping' command\r\n", NOBODY),
        ("redis", b"-ERR operation not permitted\r\n", NOBODY),
        ("memcached", b"CLIENT_ERROR unauthenticated\r\n", NOBODY),
        ("nats", b'INFO {"auth_required":true,"nonce":"x"}\r\n', NOBODY),
        ("nats", b'INFO {"auth_required":true,"tls_required":true}\r\n', "it wants TLS"),
        ("nats", b'INFO {"auth_required":false,"tls_available":true}\r\nPONG\r\n', ""),
        ("mqtt", b"\x20\x02\x00\x04", NOBODY),
        ("mqtt", b"\x20\x02\x00\x05", NOBODY),
        ("mqtt", b"\x20\x02\x01\x00", ""),
        ("smtp", b"220\n250\n", ""),
        ("imap", b"* preauth hi\r\nA OK\r\n", ""),
        ("pop3", b"+ok\r\n+OK\r\n", ""),
        ("ftp", b"220 hi\r\n200 zzz\r\n", ""),
        ("ftp", b"220 hi\r\n502 what?\r\n", ""),
        ("ftp", b"220 hi\r\n503 Login with USER first.\r\n", ""),
        ("ssh", b"Authorized use alone.\r\n\r\nYes, \xc3\xbc!\nSSH-1.99-x\n", ""),
        ("ssh", b"SSH-2.0-x comments are for people\r\n", ""),
    ],
)
def test_other_words_for_ready(name: str, said: bytes, words: str) -> None:
    """A server that asks for authentication is ready."""
    assert outcome(name, [said])[:2] == outcome(name, bytes_of(said))[:2] == ("ready", words)


@pytest.mark.parametrize(
    ("name", "said", "words"),
    [
        ("redis", b"-LOADING Redis is loading the dataset in memory\r\n", "LOADING Redis is loading the dataset"),
        ("redis", b"-MASTERDOWN Link with MASTER is down\r\n", "MASTERDOWN Link with MASTER is down"),
        ("redis", b"-CLUSTERDOWN The cluster is down\r\n", "CLUSTERDOWN The cluster is down"),
        ("redis", b"-BUSY Redis is busy running a script.\r\n", "BUSY Redis is busy"),
        ("redis", b"-MISCONF Errors writing to the AOF file\r\n", "MISCONF Errors writing"),
        ("redis", b"-ERR max number of clients reached\r\n", "ERR max number of clients reached"),
        (
            "redis",
            b"-DENIED Redis is running in protected mode because\r\n",
            "DENIED Redis is running in protected mode",
        ),
        ("redis", b"-\xff\x1b\r\n", "\\xff\x1b"),
        ("memcached", b"ERROR Too many open connections\r\n", "ERROR Too many open connections"),
        ("memcached", b"SERVER_ERROR out of memory\r\n", "SERVER_ERROR out of memory"),
        ("nats", b'INFO {"ldm":true}\r\n', "it is in lame duck mode"),
        ("nats", b"-ERR 'maximum connections exceeded'\r\n", "maximum connections exceeded"),
        ("nats", INFO + b"-ERR 'Server Shutdown'\r\n", "Server Shutdown"),
        ("mqtt", b"\x20\x02\x00\x03", "it is unavailable (code 3)"),
        ("ftp", b"120 ready in 5 minutes\r\n", "120 ready in 5 minutes"),
        ("ssh", b"Exceeded MaxStartups\r\n", "Exceeded MaxStartups"),
        ("ssh", b"Not allowed at this time\r\n", "Not allowed at this time"),
    ],
)
def test_a_server_that_is_not_ready(name: str, said: bytes, words: str) -> None:
    """A server that says that it is not ready is not, and its reason is reported."""
    for pieces in ([said], bytes_of(said)):
        found = outcome(name, pieces)
        assert found.kind == "NotReady" and found.words.startswith(words), found


@pytest.mark.parametrize(
    ("name", "said", "words"),
    [
        ("mqtt", b"\x20\x02\x00\x01", "it does not take a client of MQTT 3.1.1 (code 1)"),
        ("mqtt", b"\x20\x02\x00\x02", "it does not take a client of MQTT 3.1.1 (code 2)"),
        ("smtp", b"421-too\r\n421 busy\r\n", "it refused the connection: 421-too 421 busy"),
        ("smtp", b"554 5.7.1 not you\r\n", "it refused the connection: 554 5.7.1 not you"),
        ("smtp", b"220 hi\r\n421 going down\r\n", "it refused EHLO: 421 going down"),
        ("lmtp", b"220 hi\r\n500 what?\r\n", "it refused LHLO: 500 what?"),
        ("imap", b"* BYE full\r\n", "it refused the connection: * BYE full"),
        ("imap", b"* OK hi\r\n* BYE shutting down\r\n", "it refused NOOP: * BYE shutting down"),
        ("pop3", b"-ERR [SYS/TEMP] busy\r\n", "it refused the connection: -ERR [SYS/TEMP] busy"),
        ("ftp", b"421 too many\r\n", "it refused the connection: 421 too many"),
        ("ftp", b"220 hi\r\n421 going down\r\n", "it refused NOOP: 421 going down"),
    ],
)
def test_a_server_that_refuses(name: str, said: bytes, words: str) -> None:
    """A refusal is reported with the server's words."""
    assert outcome(name, [said])[:2] == outcome(name, bytes_of(said))[:2] == ("Refused", words)


STRANGERS = {
    "ssh": SSH,
    "http": b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n<html>",
    "tls": b"\x15\x03\x03\x00\x02\x02\x46",
    "noise": bytes(range(128, 256)) + bytes(range(128)),
    "mysql": b"J\0\0\0\n5.5.5-10.11.19-MariaDB\0",
    "line": b"\r\n\r\n",
    "json": b'{"error":"what?"}\n',
    **{name: said for name, (said, _) in READY.items()},
}
# The probe waits for more here: SSH may send text before its identification, and bytes may be a length.
MAY_BE = {
    *(("ssh", stranger) for stranger in ("line", "json", "memcached")),
    *(("mysql", "mysql"), ("mysql", "mqtt"), ("mongodb", "mqtt")),
}


@pytest.mark.parametrize("stranger", STRANGERS)
@STREAMS
def test_another_protocol(name: str, stranger: str) -> None:
    """An answer of another protocol is reported at once, with its first line."""
    said = STRANGERS[stranger]
    if said == READY[name][0]:
        return
    found = outcome(name, [said])
    if (name, stranger) in MAY_BE:
        assert found.kind == "waits"
        return
    assert found.kind == outcome(name, bytes_of(said)).kind == "Malformed", found
    assert "\n" not in found.words


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("redis", b"+PONG!\r\n"),
        ("memcached", b"ERROR\r\n"),
        ("memcached", b"CLIENT_ERROR unauthenticated, you\r\n"),
        ("nats", b"INFO []\r\n"),
        ("nats", b"INFO " + b"[" * 30_000 + b"\r\n"),
        ("nats", b"INFO \xff\r\n"),
        ("nats", b"INFOX {}\r\n"),
        ("nats", INFO + b"PONGS\r\n"),
        ("mqtt", b"\x20\x02\x00\x06"),
        ("mqtt", b"\x20\x02\x02"),
        ("mqtt", b"\x20\xff\xff\xff\x7f"),  # a length of 256 MiB
        ("smtp", b"220-hi\r\n250 there\r\n"),
        ("imap", b"* OKAY\r\n"),
        ("imap", b"* OK\r\nb OK\r\n"),
        ("pop3", b"+OKAY\r\n"),
        ("ftp", b"220 hi\r\n250 2.0.0 Ok\r\n"),  # Postfix
        ("ssh", b"SSH-1.5-old\r\n"),
        ("ssh", b"SSH-2.0\r\n"),
        ("ssh", b"220 mail.example\r\n"),
    ],
)
def test_an_answer_that_means_nothing(name: str, said: bytes) -> None:
    """An invalid answer is malformed, however it is split."""
    assert outcome(name, [said]).kind == outcome(name, bytes_of(said)).kind == "Malformed"


@STREAMS
def test_an_answer_without_an_end(name: str) -> None:
    """An answer without an end is given up at the limit."""
    begin = {"memcached": b"VERSION ", "nats": b"INFO ", "mqtt": b"\x20\x02\x00", "ssh": b""}.get(
        name, READY[name][0][:1]
    )
    assert outcome(name, [begin, *[b"o" * 1024] * (LIMIT // 1024 + 1)]).kind in ("Refused", "Malformed")


@pytest.mark.parametrize(
    ("name", "said", "heard"),
    [
        ("smtp", b"250 hi\r\n", b"EHLO [192.0.2.1]\r\nQUIT\r\n"),
        ("lmtp", b"250 hi\r\n", b"LHLO [192.0.2.1]\r\nQUIT\r\n"),
        ("imap", b"a OK\r\n", b"a NOOP\r\nb LOGOUT\r\n"),
        ("pop3", b"+OK\r\n", b"QUIT\r\n"),
        ("ftp", b"530 login first\r\n", b"NOOP\r\nQUIT\r\n"),
    ],
)
def test_behind_starttls(name: str, said: bytes, heard: bytes) -> None:
    """After STARTTLS the server sends no second greeting."""
    assert outcome(name, [said], NAMES._replace(greeted=True)) == ("ready", "", heard)


# -- datagrams


def answer(code: int, flags: int = 0x8100, counts: int = 1) -> bytes:
    """A DNS message without its id: flags, counts of its sections, and the question."""
    return struct.pack("!HHHHH", flags | code, counts, 0, 0, 0) + b"\0\0\x02\0\x01"


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (answer(dns.rcode.NOERROR), "ready", ""),
        (answer(dns.rcode.NOERROR, 0x8300), "ready", ""),  # truncated
        (answer(dns.rcode.NXDOMAIN), "ready", "NXDOMAIN"),
        (answer(dns.rcode.REFUSED), "ready", "REFUSED"),
        (answer(dns.rcode.REFUSED, counts=0)[:10], "ready", "REFUSED"),  # only the header
        (answer(dns.rcode.SERVFAIL), "NotReady", "SERVFAIL"),
        (answer(dns.rcode.NOERROR, 0x0100), "Malformed", ""),  # the question itself, as from an echo server
        (answer(dns.rcode.NOERROR).replace(b"\0\x02\0\x01", b"\0\x01\0\x01"), "Malformed", ""),
        (answer(dns.rcode.NOERROR, counts=9), "Malformed", ""),
        (b"", "Malformed", ""),
    ],
)
def test_dns(said: bytes, kind: str, words: str) -> None:
    """A server that answers the question is ready, unless the answer says that it failed."""
    found = outcome("dns", [said])
    assert found.kind == kind and (found.words == words or kind == "Malformed")
    query = dns.message.from_wire(found.said)
    assert [str(question) for question in query.question] == [". IN NS"]


def time(first: int = 0x24, stratum: int = 2, reference: bytes = b"\x7f\x7f\x01\x01") -> bytes:
    """An NTP packet without its origin timestamp."""
    return bytes([first, stratum]) + bytes(10) + reference + bytes(24)


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (time(), "ready", "stratum 2"),
        (time(0x1C, 15), "ready", "stratum 15"),  # version 3
        (time(0x64, 1), "ready", "stratum 1"),  # with a leap second announced
        (time() + bytes(20), "ready", "stratum 2"),  # with a signature
        (time(0xE4), "NotReady", "its clock is not synchronized"),
        (time(0x24, 0), "NotReady", "its clock is not synchronized"),
        (time(0x24, 16), "NotReady", "its clock is not synchronized"),
        (time(0xE4, 0, bytes(4)), "NotReady", "its clock is not synchronized"),
        (time(0xE4, 0, b"RATE"), "NotReady", "kiss-o'-death RATE"),
        (time(0x23), "Malformed", ""),  # that of a client, as from an echo server
        (time()[:39], "Malformed", ""),
        (b"", "Malformed", ""),
    ],
)
def test_ntp(said: bytes, kind: str, words: str) -> None:
    """The server is ready if its clock is synchronized."""
    found = outcome("ntp", [said])
    assert found.kind == kind and (found.words == words or kind == "Malformed")
    assert len(found.said) == 48 and found.said[0] == 0x23


@pytest.mark.parametrize("name", READY_DATAGRAMS)
def test_what_answers_somebody_else(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Datagrams that answer another request are ignored."""
    said = READY_DATAGRAMS[name]
    fit = FITTING[name]
    alien, own = fit(bytes(48), said), lambda request, data: data or fit(request, said)
    monkeypatch.setitem(FITTING, name, own)
    assert outcome(name, [alien]).kind == "waits"
    assert outcome(name, [alien, alien, b""]).kind == "ready"
