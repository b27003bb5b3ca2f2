"""The targets of the fuzzer, each with its seeds."""

import gzip
import ipaddress
import itertools
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, cast

import click
import dns.message
import dns.rrset

from netkit.cli import types
from netkit.cli.app import netkit
from netkit.core import access, address, events, sockdiag, udp_server
from netkit.core.errors import Exit, Failure, Invalid
from netkit.output.escape import printable
from netkit.output.events import TABLE, fields, sentence
from netkit.output.jsonl import record
from netkit.output.records import plain, spelled
from netkit.protocols import dns as our_dns
from netkit.protocols import proxy_header, proxy_server, url
from netkit.protocols.probes.table import PROBES
from netkit.protocols.starttls.dialogue import INJECTED, Upgrade
from netkit.protocols.starttls.layer import DIALOGUES
from netkit.services import address as explained
from netkit.services import resolve, text, transforms
from netkit.services.fetch.download import _validator, range_of
from netkit.services.fetch.retry import retry_after
from netkit.services.pack import formats, framing
from netkit.services.portcheck.targets import take_targets
from netkit.services.udp import framing as datagrams
from tests.support.answers import ODD, take, undo
from tests.support.probes import NAMES, READY, READY_DATAGRAMS, outcome, outcome_of
from tests.support.proxy_clients import PROTOCOLS, password, request, socks5
from tests.support.starttls import dialogue

_MAX_SIZE = 1 << 16  # bytes of a record
_MAX_PORTS = 65535


class Target(NamedTuple):
    """A function that takes any bytes, and valid bytes to start from."""

    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]


TARGETS: dict[str, Target] = {}


def target(*seeds: bytes) -> Callable[[Callable[[bytes], None]], Callable[[bytes], None]]:
    """Register a function as a target, by its name."""

    def add(function: Callable[[bytes], None]) -> Callable[[bytes], None]:
        TARGETS[function.__name__] = Target(function, seeds)
        return function

    return add


def words_of(data: bytes) -> list[str]:
    """Return the lines as words of a command line, at most 100, so that a run stays short."""
    return [os.fsdecode(line) for line in data.split(b"\n")[:100]]


def pieces(data: bytes) -> list[bytes]:
    """Split the bytes into pieces, with sizes that depend on the bytes."""
    edges = itertools.accumulate((byte % 7 + 1 for byte in data), initial=0)
    return [data[start : start + size % 7 + 1] for start, size in zip(edges, data, strict=False) if start < len(data)]


@contextmanager
def refusing(*exits: Exit) -> Iterator[None]:
    """Suppress an Invalid, if its message is one line, and a Failure with one of these exit codes."""
    try:
        yield
    except Invalid as error:
        assert "\n" not in printable(str(error))
    except Failure as error:
        assert error.exit in exits, repr(error)


# -- arguments


@target(
    b"localhost\n80", b"[fe80::1%lo]:80", b"::1\n443", b"tls:unix:@x", b"8080", b":0", b"b\xc3\xbccher.example:http"
)
def addresses(data: bytes) -> None:
    """An address is parsed again from the form in which it is shown."""
    words = words_of(data)
    for role in cast("tuple[address.Role, ...]", ("client", "server")):
        with refusing():
            endpoint, rest = address.take(words, role)
            assert rest == words[len(words) - len(rest) :]
            if endpoint.host not in ("tls", "unix"):
                assert address.parse(str(endpoint), role) == endpoint


@target(b"22,80,8000-8010", b"http,https,1-65535", b"db\n5432\ncache:6379", b"redis://:x@db:7/0\nunix:/s")
def port_lists(data: bytes) -> None:
    """A list of ports has only valid ports, each once."""
    words = words_of(data)
    with refusing():
        ports = address.parse_ports(words[0])
        assert all(0 < port <= _MAX_PORTS for port in ports)
        assert len(ports) <= _MAX_PORTS
    with refusing():
        for found in take_targets(words):
            assert len(set(found.ports)) == len(found.ports)


_KINDS = [kind for kind in vars(types).values() if isinstance(kind, types.Parsed)]


@target(b"500ms", b"1.5", b"30m", b"64K", b"2G", b"127.0.0.1:5", b"a: b", b"ls -l 'a b'", b"(a|b)*", b"0660", b"h2")
def values(data: bytes) -> None:
    """An invalid value of an option is a UsageError with a message, and causes no warning."""
    word = os.fsdecode(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in _KINDS:
            try:
                kind.convert(word, None, None)
            except click.UsageError as error:
                assert printable(error.message)


@target(b"10.0.0.0/8\n10.1.2.3", b"::ffff:0:0/96\n1.2.3.4", b"fe80::/10\nfe80::1%lo", b"ff15::1%lo\n239.1.2.3")
def networks(data: bytes) -> None:
    """A network contains its first and last address, and an address is explained or refused."""
    for word in words_of(data):
        with refusing():
            network = access.parse_network(word)
            assert all(access.Access((network,)).admits(str(host)) for host in (network[0], network[-1]))
            assert not access.Access((), (network,)).admits(str(network[0]))
        with refusing():
            udp_server.parse_group(word)
        with refusing():
            assert all(isinstance(value, str) for _, value in explained.explain(word))


@target(rb"a\n\x41\0\\", b"\xc3\xa9\xff")
def texts(data: bytes) -> None:
    """Bytes spelled as text are one printable line, and parsed as the same bytes."""
    spelling = text.spell(data)
    assert text.parse(spelling) == data
    assert spelling.isprintable()
    with refusing():
        again = text.spell(text.parse(os.fsdecode(data)))
        assert text.spell(text.parse(again)) == again


@target(
    b"connect\nlocalhost\n80\n--tls\n-w\n2s", b"listen\n0\n--exec\ncat\n-k", b"udp-send\n:5\nhello\n--wait\n1",
    b"pack\nu16 str\n1\nx", b"portcheck\nlocalhost\n80,90-99\n--json", b"relay\n8080\ndb:5432\n--\ntrue",
    b"fetch\nhttp://h/\n-H\nA: b\n-o\nx", b"resolve\nexample\n--type\nMX", b"echo\n:7\n--both\n--allow\n::1",
)  # fmt: skip
def command_lines(data: bytes) -> None:
    """A command line is parsed, or refused with a usage error, without running the command."""
    words = [word for word in words_of(data) if "\0" not in word]
    if not words or words[0] not in netkit.list_commands(click.Context(netkit)) or {"-h", "--help"} & {*words}:
        return
    command = netkit.get_command(click.Context(netkit), words[0])
    assert command is not None
    try:
        command.make_context(f"netkit {words[0]}", words[1:])
    except click.UsageError as error:
        assert printable(error.message)
    except click.exceptions.Exit as ended:
        assert ended.exit_code == 0


# -- values and bytes


@target(
    b"u16:port str\n80\nx", b"<hIq5s\n1\n2\n3\nabc", b"ip mac hex\n::1\n02:00:00:00:00:01\n00ff", b"2?xc\n1\n0\nz"
)  # fmt: skip
def packing(data: bytes) -> None:
    """Packed bytes are the same after they are unpacked, shown and packed again."""
    form, *words = words_of(data)
    with refusing(Exit.TOO_BIG):
        packed = formats.parse(form, _MAX_SIZE).pack(words)
        layout = formats.parse(form, _MAX_SIZE, reading=True)
        assert layout.pack([spelled(value) for value in layout.unpack(packed)]) == packed


@target(b"u16:port str\n\0\x50x", b"<hIq5s\n" + bytes(19), b"@bP?\n" + bytes(17), b"f32 f64\n" + b"\x7f" * 12)
def unpacking(data: bytes) -> None:
    """Any bytes are unpacked to printable values, or are partial or malformed."""
    form, _, rest = data.partition(b"\n")
    with refusing(Exit.TOO_BIG, Exit.PARTIAL, Exit.PROTOCOL):
        for value in formats.parse(os.fsdecode(form), _MAX_SIZE, reading=True).unpack(rest):
            assert spelled(value).isprintable()
            record("record", "unpack", value=plain(value))


@target(b"\x01\x00\x05hello\x00\x00", b"\x05\x00\x00\x00\x05hello", b"\x02\x05\x00\x00\x00hello")
def frames(data: bytes) -> None:
    """Records do not depend on how the bytes are split, and framed again they are the same bytes."""
    prefix = framing.parse_prefix(("u8", "u16", "u32", "u16le", "u32le")[sum(data[:1]) % 5])
    rest = data[1:]
    outcomes = [_drained(framing.frames(framing.Source(c), prefix, 999, repeat=True)) for c in ([rest], pieces(rest))]
    assert outcomes[0] == outcomes[1]
    found, failure = outcomes[0]
    again = b"".join(prefix.frame(body) for _, body in found)
    assert rest.startswith(again)
    assert failure or again == rest


def _drained(found: Iterable[Any]) -> tuple[list[Any], str]:
    """Return all items before the end or a failure, and the message of the failure."""
    drained: list[Any] = []
    try:
        drained += found  # keeps the items before a failure
    except Failure as failure:
        assert failure.exit in (Exit.TOO_BIG, Exit.PARTIAL, Exit.PROTOCOL, Exit.READ, Exit.USAGE)
        return drained, str(failure)
    return drained, ""


@target(b"\x05one\ntwo\n\nthree", b"\x00ff 00\n\n0102\n", b"\x01" + bytes(99))
def datagram_lines(data: bytes) -> None:
    """Datagrams do not depend on how the input is split."""
    rest = data[1:]
    kinds = (datagrams.in_lines, datagrams.in_hex, lambda: datagrams.InPieces(sum(data[:1]) + 1))
    for make in kinds:
        outcomes = []
        for chunks in ([rest], pieces(rest)):
            frame = make()
            batches = (batch for chunk in (*filter(None, chunks), b"") for batch in frame(chunk))
            found, failure = _drained(batches)
            cut = [bytes(part[at : at + size]) for part, size in found for at in range(0, len(part) or 1, size)]
            outcomes.append((cut, failure))
        assert outcomes[0] == outcomes[1]


@target(b"a\r\nb\n\x1b[31m\xc3\xa9\xff\xc2\x9b", b"\xf0\x9f\x98")
def changes(data: bytes) -> None:
    """The result of a transform does not depend on how the bytes are split; ``visible`` leaves no control bytes."""
    makers = (transforms.visible, transforms.crlf, lambda: transforms.labelled("x"), lambda: transforms.prefixed(b"> "))
    for make in makers:
        whole, part = make(), make()
        given = (whole(data) if data else b"") + whole(b"")
        assert given == b"".join([*map(part, filter(None, pieces(data))), part(b"")])
        if make is transforms.visible:
            assert not re.search(r"[^\n\r\t\x20-\x7e\xa0-\U0010ffff]", given.decode())


# -- data from a peer

_HOST = "a.example"
_RECORDS = (
    ("A", "127.0.0.1"), ("CNAME", "b.example."), ("MX", "5 m.example."), ("TXT", r'"a\001\"b" "c"'),
    ("SRV", "0 0 5 h."), ("CAA", '0 issue "x"'), ("SOA", "a. b. 1 2 3 4 5"), ("AAAA", "::1"),
    ("TYPE65280", r"\# 2 0001"), ("LOC", "51 30 12.748 N 0 7 39.612 W 0m"), ("SSHFP", "1 1 " + "00" * 20),
    ("HTTPS", "1 . alpn=h2"), ("NAPTR", '1 1 "u" "x" "!^.*$!a!" .'), ("NSEC", "b. A MX"), ("TLSA", "3 1 0 00ff"),
)  # fmt: skip


def _question(kind: str) -> dns.message.Message:
    query = dns.message.make_query(_HOST, kind, use_edns=0)
    query.id = 0
    return query


def _answers() -> Iterator[bytes]:
    """Yield, for each type of record, its index in the table and an answer with such a record."""
    for place, (kind, value) in enumerate(_RECORDS):
        answer = dns.message.make_response(_question(kind))
        answer.answer = [dns.rrset.from_text(_HOST + ".", 300, "IN", kind, value)]
        yield bytes([place]) + answer.to_wire()


@target(*_answers())
def dns_answers(data: bytes) -> None:
    """A DNS answer is parsed, or is malformed; its values are printable ASCII."""
    kind, _ = _RECORDS[sum(data[:1]) % len(_RECORDS)]
    with refusing(Exit.PROTOCOL, Exit.RESOLVE):
        answer = our_dns._parse(_question(kind), data[1:])
        reply = our_dns._read(answer, _HOST, kind, "127.0.0.1:53", "udp")
        for kind, value, _, _ in reply.records:
            assert value.isascii() and value.isprintable(), value
            our_dns.comparable(kind, value)


@target(b"a\nMX", b"*.example\n_x.example", b"tls:[::1]:853\nSRV", b"unix:x\nhttps://h/q", b'10 a.b\n"x" "y"\n\\# 1 00')
def questions(data: bytes) -> None:
    """Names, types and servers to look up are parsed or refused."""
    for word in words_of(data):
        for read in (resolve.parse_server, our_dns.check_kind, lambda name: resolve.check(name, resolve.Query())):
            with refusing():
                read(word)
        kind, _ = _RECORDS[len(data) % len(_RECORDS)]
        with refusing():
            our_dns.comparable(kind, word)


@target(
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nT: x\r\n\r\n",
    b"HTTP/1.0 301 M\r\nLocation: /x\r\nETag: \"a\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
    b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 206 P\r\nContent-Range: bytes 1-2/3\r\nContent-Length: 2\r\n\r\nxy",
)  # fmt: skip
def http_answers(data: bytes) -> None:
    """An HTTP answer does not depend on how the bytes are split; a malformed one has the exit code for that."""
    method = "HEAD" if data[:1] == b"\0" else "GET"
    cuts = list(itertools.accumulate(map(len, pieces(data[:64]))))
    whole, part = take(data, [], method), take(data, cuts, method)
    for taken in (whole, part):
        assert taken.exit in (Exit.OK, *ODD)
    assert (whole.exit, whole.body, whole.head) == (part.exit, part.body, part.head)
    if whole.head is not None:
        _validator(whole.head)
        assert (retry_after(whole.head) or 0) >= 0
        first, last, size = range_of(whole.head) or (0, 0, None)
        assert min(first, last, size or 0) >= 0


@target(
    zlib.compress(b"hello" * 9),
    gzip.compress(b"hello", mtime=0),
    gzip.compress(b"", mtime=0) + gzip.compress(b"more", mtime=0),
    b"",
)
def compressed(data: bytes) -> None:
    """Whether a compressed body is whole, malformed or cut does not depend on how it is split."""
    for codings in ("gzip", "deflate", "gzip, deflate"):
        whole, by_byte = undo(data, codings, 1 << 20), undo(data[:200], codings, 1)
        assert whole[1] in by_byte[1:2] or len(data) > 200
        assert {whole[1], by_byte[1]} <= {Exit.OK, Exit.PROTOCOL, Exit.PARTIAL}


@target(b"example.org:443:192.0.2.7", b"h:80:[2001:db8::1]", b"h:80:::1", b"b\xc3\xbccher.example:1:127.0.0.1")
def resolutions(data: bytes) -> None:
    """A value of --resolve has an address, with the port of the name."""
    with refusing():
        named, place = url.parse_resolved(os.fsdecode(data))
        assert address.family_of(place.host or "") is not None
        assert named.port == place.port


@target(b"http://user:pw@h:80/a?b#c", b"https://[fe80::1%2525lo]/", b"http://b\xc3\xbccher.example/\xc3\xa9 x")
def urls(data: bytes) -> None:
    """A URL is printable ASCII, and is parsed again as the same, without user and password."""
    with refusing():
        found = url.parse(os.fsdecode(data))
        assert found.target.isascii() and found.target.isprintable() and " " not in found.target
        assert str(found).isascii()
        place = str(found.endpoint).replace("%", "%25")  # of a zone: RFC 6874
        again = url.parse(f"{found.scheme}://{place}{found.target}")
        assert again == found._replace(userinfo=None)


@target(b"/x/../y?z", b"//other/", b"https://a/", b"?q", b"a b", b"\xff\xfe")
def locations(data: bytes) -> None:
    """A Location is an http or https URL without control bytes, or is refused."""
    base = url.parse("https://h/a/b?c")
    with refusing():
        found = url.follow(base, data)
        assert found.scheme in ("http", "https")
        assert re.fullmatch(r"[!-~]+", found.target)
        assert "/../" not in found.target.partition("?")[0]


_PROBES = tuple(PROBES)


_ANSWERS = {**{name: said for name, (said, _) in READY.items()}, **READY_DATAGRAMS}


@target(*(bytes([_PROBES.index(name)]) + said for name, said in _ANSWERS.items()))
def probes(data: bytes) -> None:
    """For any answer of a server a probe has a verdict or waits, however the answer is split."""
    name, rest = _PROBES[sum(data[:1]) % len(_PROBES)], data[1:]
    whole = outcome(name, [rest])
    if PROBES[name].protocol == "tcp":
        assert outcome(name, pieces(rest)).kind == whole.kind
    assert printable(whole.words).isprintable()


@target(*(bytes([place]) + b"".join(said for said, _ in dialogue(name)) for place, name in enumerate(DIALOGUES)))
def starttls_answers(data: bytes) -> None:
    """What a STARTTLS dialogue sends, and whether TLS begins, does not depend on how the answers are split."""
    steps = list(DIALOGUES.values())[sum(data[:1]) % len(DIALOGUES)]
    cuts = ([b"", data[1:]], [b"", *pieces(data[1:1000]), data[1000:]])  # fewer, as tags of XMPP are parsed for each
    whole, part = (outcome_of(Upgrade(steps(NAMES)), cut) for cut in cuts)
    assert whole.kind == part.kind
    assert whole.said == part.said or whole.words == INJECTED  # which may end a dialogue before the last that is sent
    assert printable(str(whole.words)).isprintable()


@target(
    *(request(protocol, 80) for protocol in PROTOCOLS),
    b"\5\1\2" + password(b"me", b"x") + socks5(80),
    b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\nProxy-Authorization: Basic bWU6eA==\r\n\r\n",
)
def proxy_requests(data: bytes) -> None:
    """A request of a proxy's client, or the reply that refuses it, does not depend on how it is split."""
    for admits in (None, lambda _, secret: secret == b"x"):
        whole, part = (outcome_of(proxy_server.Handshake(admits), cut) for cut in ([data], pieces(data)))
        assert whole == part
        assert whole.kind != "ready" or (whole.words.target.host and whole.words.target.port)
        assert len(whole.said) < 2 * proxy_server.MAX_HEAD


@target(
    *(proxy_header.header(v, address.Endpoint("::1", 7), address.Endpoint("::2", 80)) for v in ("v1", "v2")),
    b"PROXY UNKNOWN\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 7 80\r\nhello",
    proxy_header.header("v2", address.Endpoint(path="/a"), address.Endpoint(path="\0b")),
    bytes.fromhex("0d0a0d0a000d0a515549540a 2111 0011 c0000201 c6336407 dc04 01bb 01 0002 6832"),
)
def proxy_headers(data: bytes) -> None:
    """A PROXY header is complete with its last byte, whatever follows, or is malformed."""
    with suppress(proxy_header.Malformed):
        told = proxy_header.parse(data)
        if told is not None:
            assert proxy_header.parse(data[: told.size]) == told
            assert not any(proxy_header.parse(data[:size]) for size in range(max(told.size - 300, 0), told.size))


# -- text from others


@target(b"CN\n::error::x", b"\x1b]0;x\x07", b"\xe2\x80\xae", b"a" * 500)
def foreign_text(data: bytes) -> None:
    """Text from certificates, reasons and paths is printable ASCII in messages and in JSON."""
    word = os.fsdecode(data)
    secured = events.Secured(protocol=word, cipher=word, alpn=word, certificates=(data,))
    answered = events.Answered(target=word, status=200, reason=word, size_bytes=1, content_type=word)
    for event in (secured, answered, events.Cut(address.Endpoint(path=word), word)):
        assert type(event) in TABLE
        line = printable(sentence(event, 9) or "")
        assert line.isascii() and line.isprintable()
        named = fields(event, 9)
        assert named is not None
        line = record(named[0], "connect", **named[1])
        assert line.isascii() and line.count("\n") <= 1


@target(
    b"  1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 9 1 0000000000000000 100\n",
    b"  0: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 "
    b"00:00000000 00000000     0        0 21 1 0000000000000000 100 0 0 10 0\n",
)
def socket_tables(data: bytes) -> None:
    """A line of /proc/net is parsed as a socket or left out."""
    for family in ("ipv4", "ipv6"):
        for one in sockdiag.parse_proc(data.decode("ascii", "replace"), "tcp", family):
            assert ipaddress.ip_address(one.local)
