"""A DNS client, with dnspython's messages: over UDP, over TCP for answers that do not fit, over TLS and over HTTPS.

Each query has a random id, and a source port that the system chooses at random. Datagrams that do not match it are
ignored.
"""

import os
import struct
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from itertools import count
from typing import NamedTuple

import dns.entropy
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.reversename

from netkit.core import udp
from netkit.core.address import Endpoint, family_of
from netkit.core.dial import Dialling, dial
from netkit.core.errors import Exit, Failure, Invalid
from netkit.core.events import AskedAgain, Observer, Replied, ignore
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now
from netkit.core.layer import Layer
from netkit.core.stream import Connection
from netkit.core.units import duration
from netkit.protocols.url import Url

_PAYLOAD = 1232  # bytes of an answer that no path fragments: DNS flag day 2020
_FOREVER = 3600.0  # s, for ``dial``: the deadline of the caller applies
_FIRST_PAUSE = 1.0  # s until the next server is asked; twice as long each round
NOT_FOUND = "name not found"
_WORDS = {
    dns.rcode.NXDOMAIN: NOT_FOUND,
    dns.rcode.SERVFAIL: "temporary failure of the server (SERVFAIL)",
    dns.rcode.REFUSED: "the server refuses to answer (REFUSED)",
}
# After one of these the next server is asked.
_NEXT = (dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP)
# Failures whose exit code is kept; any other becomes RESOLVE.
_TOLD = (Exit.PROTOCOL, Exit.CERT, Exit.TLS, Exit.PARTIAL)
_MEDIA_TYPE = "application/dns-message"  # RFC 8484, section 6
_UNKNOWN = dns.rdatatype.from_text("TYPE65280")  # for private use, so it has no form but bytes: RFC 6895, section 3.1
_MAX_MESSAGE = 65535  # bytes: RFC 1035, section 4.2.2
_MALFORMED = (dns.exception.DNSException, ValueError, IndexError, struct.error)


class Asking(NamedTuple):
    """The servers and how they are asked: one after the other, until ``timeout`` seconds after ``begun``.

    ``layers`` make it DNS over TLS (RFC 7858). ``url``, of the only server, makes it DNS over HTTPS (RFC 8484).
    """

    servers: Sequence[Endpoint]
    begun: float
    timeout: float
    layers: Sequence[Layer] = ()
    url: Url | None = None
    observe: Observer = ignore

    @property
    def until(self) -> float:
        """When the time is over, by the kernel's clock."""
        return self.begun + self.timeout

    @property
    def protocol(self) -> str:
        """The protocol of a query's first try."""
        return "https" if self.url else "tls" if self.layers else "udp"

    def name(self, server: Endpoint) -> str:
        """The name of a server in messages."""
        return str(self.url or server)


class Reply(NamedTuple):
    """The answer of a server, maybe without records. ``canonical`` is the name at the end of the CNAMEs.

    Each of ``records`` is its type, its value in the form of zone files (printable ASCII), its TTL in seconds, and its
    strings if it is made of strings, as TXT is.
    """

    records: tuple[tuple[str, str, int, tuple[bytes, ...]], ...]
    canonical: str
    server: str
    protocol: str


def check_kind(text: str) -> str:
    """Return the name of a record type in upper case. Raises Invalid for unknown types and meta-types."""
    try:
        kind = dns.rdatatype.from_text(text)
    except (dns.exception.DNSException, ValueError):
        raise Invalid(f"type {text!r} is none of DNS: A, AAAA, MX, TXT, NS, SOA, SRV, CNAME, PTR, CAA...") from None
    if dns.rdatatype.is_metatype(kind) or kind == dns.rdatatype.NONE:
        raise Invalid(f"type {text!r} is no type of record")
    return dns.rdatatype.to_text(kind)


def can_ask(text: str) -> bool:
    """Whether a query for a name can be encoded: not if it is too long, or has an empty label."""
    try:
        dns.name.from_text(text)
    except (dns.exception.DNSException, UnicodeError):
        return False
    return True


def is_name(text: str) -> bool:
    """Whether a text is a DNS name, which need not be a host name: ``_x.example``, ``0/25.2.0.192.in-addr.arpa``."""
    if not (text.isascii() and text.isprintable() and can_ask(text)):
        return False
    return " " not in text and not text.rstrip(".")[-1:].isdigit()


def comparable(kind: str, text: str) -> bytes:
    """Convert a record's value from the form of zone files to the canonical form (RFC 4034, section 6.2) to compare it.

    For a TXT record these are its strings, joined; its text may also be given without quotation marks. Raises Invalid.
    """
    rdtype = dns.rdatatype.from_text(kind)
    is_text = rdtype in (dns.rdatatype.TXT, dns.rdatatype.SPF)
    if is_text and not text.startswith(('"', "\\#")):
        return os.fsencode(text)
    rdclass = dns.rdataclass.IN
    try:
        try:
            rdata = dns.rdata.from_text(rdclass, rdtype, text, dns.name.root, relativize=False)
        except _MALFORMED:  # it may be in the generic form, \# LENGTH HEX: RFC 3597, section 5
            rdata = dns.rdata.from_text(rdclass, _UNKNOWN, text)
    except _MALFORMED:
        raise Invalid(f"value {text!r} is none of type {kind}") from None
    return b"".join(_strings(rdata)) if is_text else rdata.to_digestable()


def _strings(rdata: dns.rdata.Rdata) -> tuple[bytes, ...]:
    return tuple(getattr(rdata, "strings", ()))


async def ask(host: str, kind: str, how: Asking) -> Reply:
    """Query the records of type ``kind`` of a name; for an IP address, of its name in in-addr.arpa or ip6.arpa.

    Raises Failure: RESOLVE if there is no such name or the servers fail, PROTOCOL for malformed answers, TIMEOUT; CERT,
    TLS and PARTIAL as the TLS layer does.
    """
    if family_of(host) is not None:
        name = dns.reversename.from_address(host.partition("%")[0])
    else:
        name = dns.name.from_text(host)
    query = dns.message.make_query(name, kind, use_edns=0, payload=_PAYLOAD)
    with closing(_Datagrams()) as datagrams:
        return await _ask(host, kind, query, how, datagrams)


async def _ask(host: str, kind: str, query: dns.message.Message, how: Asking, datagrams: "_Datagrams") -> Reply:
    failed: set[Endpoint] = set()
    since: dict[Endpoint, float] = {}  # when each server was asked first, as its answer may be to that
    query.id = _new_id(how)
    why = ""
    for turn in count():
        server = how.servers[turn % len(how.servers)]
        called = how.name(server)
        if why:
            how.observe(AskedAgain(host, why, called, how.protocol))
        asked = now()
        since.setdefault(server, asked)
        patience = min(how.until - asked, _FIRST_PAUSE * 2.0 ** (turn // len(how.servers)))
        try:
            answer, protocol = await _answer(host, query, server, how, asked + patience, datagrams)
        except DeadlineExceeded:
            if now() >= how.until:
                raise _silence(host, how, datagrams.odd) from None
            why = f"no answer from {called} within {duration(patience)}"
            continue
        except Failure as failure:
            failed.add(server)
            if failed.issuperset(how.servers):
                if failure.exit is Exit.RESOLVE:  # the server's own name was not found
                    raise
                exit = failure.exit if failure.exit in _TOLD else Exit.RESOLVE
                raise _failure(exit, host, failure.reason, map(how.name, how.servers)) from failure
            why = f"{called}: {failure.reason}"
            continue
        rcode = answer.rcode()
        if rcode == dns.rcode.FORMERR and query.edns >= 0:
            query.use_edns(-1)  # an old server: ask the next one, maybe the same, without EDNS
            query.id = _new_id(how)
            why = f"{called} knows no EDNS"
            continue
        if rcode in _NEXT:
            failed.add(server)
            if not failed.issuperset(how.servers):
                why = f"{called} answers {dns.rcode.to_text(rcode)}"
                continue
        how.observe(Replied(host, kind, called, protocol, now() - since[server]))
        return _read(answer, host, kind, called, protocol)
    raise AssertionError("turns never end")


def _new_id(how: Asking) -> int:
    return 0 if how.url else dns.entropy.random_16()  # RFC 8484, section 4.1


class _Datagrams:
    """The sockets over which servers are asked over UDP, so that a late answer to an earlier try counts.

    ``odd`` are the servers that sent something else. Its owner closes it.
    """

    def __init__(self) -> None:
        self.odd: set[Endpoint] = set()
        self._sockets: dict[Endpoint, udp.DatagramClient] = {}

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()

    async def ask(self, query: dns.message.Message, server: Endpoint) -> dns.message.Message:
        """Query a server; the answer may be truncated."""
        if server not in self._sockets:
            self._sockets[server] = await udp.connect(server)
        sock = self._sockets[server]
        await sock.send(query.to_wire())
        while True:
            data, _ = await sock.receive()
            try:
                return _parse(query, data)
            except Failure:
                self.odd.add(server)


async def _answer(
    host: str, query: dns.message.Message, server: Endpoint, how: Asking, until: float, datagrams: _Datagrams
) -> tuple[dns.message.Message, str]:
    """The answer of a server, and the protocol over which it came: over UDP, until ``until``, again over TCP if cut."""
    protocol = how.protocol
    if protocol == "udp":
        with deadline(until):
            answer = await datagrams.ask(query, server)
        if not answer.flags & dns.flags.TC:
            return answer, protocol
        protocol, called = "tcp", how.name(server)
        how.observe(AskedAgain(host, f"{called} cut its answer short", called, protocol))
    with deadline(how.until):
        return await (_over_https(query, server, how) if how.url else _over_stream(query, server, how)), protocol


async def _over_stream(query: dns.message.Message, server: Endpoint, how: Asking) -> dns.message.Message:
    """Query over TCP or TLS (RFC 7766)."""
    async with _dialled(server, how) as stream:
        wire = query.to_wire()
        await stream.send(len(wire).to_bytes(2, "big") + wire)
        data = b""
        while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
            chunk = await stream.recv()
            if not chunk:
                raise Failure(Exit.PROTOCOL, f"ask {server}", "it ended before its answer did")
            data += chunk
        return _parse(query, data[2 : 2 + int.from_bytes(data[:2], "big")])


async def _over_https(query: dns.message.Message, server: Endpoint, how: Asking) -> dns.message.Message:
    """Query over HTTPS, by a POST to the server's URL."""
    from netkit.protocols.http import OK, Exchange, Request

    url = how.url
    assert url is not None
    media_type = _MEDIA_TYPE.encode()
    fields = [("Host", url.authority.encode()), ("Accept", media_type), ("Content-Type", media_type)]
    if url.authorization is not None:
        fields.append(("Authorization", url.authorization.encode()))
    async with _dialled(server, how) as stream:
        exchange = Exchange(stream, Request("POST", url.target, fields, query.to_wire()), str(url))
        await exchange.ask()
        head = await exchange.head()
        if head.status != OK:
            raise Failure(Exit.HTTP, f"ask {url}", f"the server answered {head.status_line}")
        kind = (head.get("content-type") or "nothing").partition(";")[0].strip().lower()
        if kind != _MEDIA_TYPE:
            raise Failure(Exit.PROTOCOL, f"ask {url}", f"what came is {kind}, not {_MEDIA_TYPE}")
        data = b""
        while chunk := await exchange.recv():
            data += chunk
            if len(data) > _MAX_MESSAGE:
                raise Failure(Exit.PROTOCOL, f"ask {url}", f"its answer has more than {_MAX_MESSAGE} bytes")
        return _parse(query, data)


@asynccontextmanager
async def _dialled(server: Endpoint, how: Asking) -> AsyncIterator[Connection]:
    """A connection to a server for one query, which is closed after the block."""
    async with Group() as group:
        stream = await dial(server, Dialling(timeout=_FOREVER, layers=how.layers), group=group)
        try:
            yield stream
            with suppress(Failure):
                await stream.send_eof()
        finally:
            group.cancel()
            stream.close()


def _parse(query: dns.message.Message, data: bytes) -> dns.message.Message:
    """Parse a message, which may be truncated (TC). Raises Failure PROTOCOL if it does not answer the query."""
    try:
        answer = dns.message.from_wire(data, raise_on_truncation=True)
    except dns.message.Truncated as cut:
        answer = cut.kwargs["message"]
    except _MALFORMED:
        try:
            answer = _parse_in_part(data)
        except _MALFORMED as error:
            raise Failure(Exit.PROTOCOL, "read an answer", "it is malformed") from error
    if not query.is_response(answer):
        raise Failure(Exit.PROTOCOL, "read an answer", "it answers something else")
    return answer


def _parse_in_part(data: bytes) -> dns.message.Message:
    """Parse a message with malformed records, which are kept in its answer section as generic data (RFC 3597).

    Raises one of _MALFORMED if more than the data of some records is wrong.
    """
    answer = dns.message.from_wire(data, continue_on_error=True)
    offset = 12  # of the header: RFC 1035, section 4.1.1
    questions, *numbers = struct.unpack_from("!4H", data, 4)
    for _ in range(questions):
        _, size = dns.name.from_wire(data, offset)
        offset += size + 4
    for place in range(sum(numbers)):
        name, size = dns.name.from_wire(data, offset)
        kind, rdclass, ttl, length = struct.unpack_from("!HHIH", data, offset + size)
        begin = offset + size + 10
        offset = begin + length
        try:
            dns.rdata.from_wire(rdclass, kind, data, begin, length)
        except _MALFORMED:
            if place < numbers[0]:
                unread = dns.rdata.GenericRdata(rdclass, kind, data[begin:offset])
                answer.find_rrset(answer.answer, name, rdclass, kind, create=True).add(unread, ttl)
    if offset != len(data):
        raise ValueError("the message is longer or shorter than its records")
    return answer


def _read(answer: dns.message.Message, host: str, kind: str, server: str, protocol: str) -> Reply:
    rcode = answer.rcode()
    if rcode != dns.rcode.NOERROR:
        reason = _WORDS.get(rcode, f"the server answers {dns.rcode.to_text(rcode)}")
        raise _failure(Exit.RESOLVE, host, reason, [server])
    if not isinstance(answer, dns.message.QueryMessage):
        raise _failure(Exit.PROTOCOL, host, "what came is no answer", [server])
    try:
        chain = answer.resolve_chaining()
    except dns.message.ChainTooLong:
        raise _failure(Exit.RESOLVE, host, "its aliases never end", [server]) from None
    except (dns.exception.DNSException, AttributeError) as error:  # AttributeError: a CNAME that could not be parsed
        raise _failure(Exit.PROTOCOL, host, "what came is no answer", [server]) from error
    canonical = chain.canonical_name
    wanted = dns.rdatatype.from_text(kind)
    found = [each for each in answer.answer if each.name == canonical and each.rdtype == wanted]  # RRSIG: one per type
    records = tuple((kind, rdata.to_text(), each.ttl, _strings(rdata)) for each in found for rdata in each)
    return Reply(records, canonical.to_text(omit_final_dot=True), server, protocol)


def _silence(host: str, how: Asking, odd: Iterable[Endpoint]) -> Failure:
    """The failure of servers that sent nothing in time, or only what is no answer, as those in ``odd``."""
    if odd:
        return _failure(Exit.PROTOCOL, host, "what came is no answer", map(how.name, odd))
    return _failure(Exit.TIMEOUT, host, f"no answer within {duration(how.timeout)}", map(how.name, how.servers))


def _failure(exit: Exit, host: str, reason: str, servers: Iterable[str]) -> Failure:
    return Failure(exit, f"resolve {host}", reason, detail=", ".join(servers))
