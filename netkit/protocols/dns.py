"""DNS itself: dnspython's messages over our datagrams, over a stream where an answer does not fit into one, and over
TLS and HTTPS.

Each try has a random id, from a port that the system chooses at random; what does not answer it is not heard.
"""

import os
import struct
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
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
_FOREVER = 3600.0  # s: another deadline stands
_FIRST_PAUSE = 1.0  # s until a server is asked again; twice as long each round
_WORDS = {
    dns.rcode.NXDOMAIN: "name not found",
    dns.rcode.SERVFAIL: "temporary failure of the server (SERVFAIL)",
    dns.rcode.REFUSED: "the server refuses to answer (REFUSED)",
}
# Of another server one may hear better.
_NEXT = (dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP)
# Failures that say more than that nothing was found.
_TOLD = (Exit.PROTOCOL, Exit.CERT, Exit.TLS, Exit.PARTIAL)
_MEDIA_TYPE = "application/dns-message"  # RFC 8484, section 6
_UNKNOWN = dns.rdatatype.from_text("TYPE65280")  # for private use, so it has no form but bytes: RFC 6895, section 3.1
_MAX_MESSAGE = 65535  # bytes: RFC 1035, section 4.2.2
_MALFORMED = (dns.exception.DNSException, ValueError, IndexError, struct.error)


class Asking(NamedTuple):
    """Whom to ask and how: the servers, one after the other, until ``timeout`` seconds from ``begun`` are over.

    With ``layers`` it is DNS over TLS (RFC 7858), and with a ``url``, which is the one server's, over HTTPS (RFC 8484).
    """

    servers: Sequence[Endpoint]
    begun: float
    timeout: float
    layers: Sequence[Layer] = ()
    url: Url | None = None
    observe: Observer = ignore

    @property
    def protocol(self) -> str:
        """What a question goes over first."""
        return "https" if self.url else "tls" if self.layers else "udp"

    def name(self, server: Endpoint) -> str:
        """What a server is called."""
        return str(self.url or server)


class Reply(NamedTuple):
    """What a server said: maybe no record at all. ``canonical`` is the name at the end of the aliases.

    ``records`` are their type, their value as zone files write it, which is printable ASCII, their TTL in seconds, and
    the strings of those that are made of strings, such as TXT.
    """

    records: tuple[tuple[str, str, int, tuple[bytes, ...]], ...]
    canonical: str
    server: str
    protocol: str


def check_kind(text: str) -> str:
    """Return the name of a type of record, in upper case; raise Invalid for what is none that can be asked for."""
    try:
        kind = dns.rdatatype.from_text(text)
    except (dns.exception.DNSException, ValueError):
        raise Invalid(f"type {text!r} is none of DNS: A, AAAA, MX, TXT, NS, SOA, SRV, CNAME, PTR, CAA...") from None
    if dns.rdatatype.is_metatype(kind) or kind == dns.rdatatype.NONE:
        raise Invalid(f"type {text!r} is no type of record")
    return dns.rdatatype.to_text(kind)


def is_name(text: str) -> bool:
    """Whether this is a name of DNS, which may be no host's: ``_x.example``, ``0/25.2.0.192.in-addr.arpa``."""
    try:
        dns.name.from_text(text)
    except (dns.exception.DNSException, UnicodeError):
        return False
    return text.isascii() and text.isprintable() and " " not in text and not text.rstrip(".")[-1:].isdigit()


def comparable(kind: str, text: str) -> bytes:
    """A record's value, as zone files write it, in the one form in which values are compared (RFC 4034, section 6.2).

    Of a TXT record it is its strings, joined; its text may also be given as it is, without quotation marks. Raises
    Invalid.
    """
    rdtype = dns.rdatatype.from_text(kind)
    is_text = rdtype in (dns.rdatatype.TXT, dns.rdatatype.SPF)
    if is_text and not text.startswith(('"', "\\#")):
        return os.fsencode(text)
    rdclass = dns.rdataclass.IN
    try:
        try:
            rdata = dns.rdata.from_text(rdclass, rdtype, text, dns.name.root, relativize=False)
        except _MALFORMED:  # unless it is bytes that cannot be read: RFC 3597, section 5
            rdata = dns.rdata.from_text(rdclass, _UNKNOWN, text)
    except _MALFORMED:
        raise Invalid(f"value {text!r} is none of type {kind}") from None
    return b"".join(_strings(rdata)) if is_text else rdata.to_digestable()


def _strings(rdata: dns.rdata.Rdata) -> tuple[bytes, ...]:
    return tuple(getattr(rdata, "strings", ()))


async def ask(host: str, kind: str, how: Asking) -> Reply:
    """Ask for records of a name; of an address, for its name.

    Raises Failure: RESOLVE if there is no such name or the server fails, PROTOCOL if what came means nothing, TIMEOUT;
    CERT, TLS and PARTIAL as TLS does.
    """
    if family_of(host) is not None:
        name = dns.reversename.from_address(host.partition("%")[0])
    else:
        name = dns.name.from_text(host)
    query = dns.message.make_query(name, kind, use_edns=0, payload=_PAYLOAD)
    servers = how.servers
    until = how.begun + how.timeout
    failed: set[Endpoint] = set()
    odd: set[Endpoint] = set()
    why = ""
    for turn in count():
        server = servers[turn % len(servers)]
        called = how.name(server)
        protocol = how.protocol
        if why:
            how.observe(AskedAgain(host, why, called, protocol))
        query.id = 0 if how.url else dns.entropy.random_16()  # RFC 8484, section 4.1
        asked = now()
        patience = min(until - asked, _FIRST_PAUSE * 2.0 ** (turn // len(servers)))
        try:
            if protocol == "udp":
                with deadline(asked + patience):
                    answer = await _over_udp(query, server, odd)
                if answer.flags & dns.flags.TC:
                    protocol = "tcp"
                    how.observe(AskedAgain(host, f"{called} cut its answer short", called, protocol))
            if protocol != "udp":
                with deadline(until):
                    answer = await (_over_https(query, server, how) if how.url else _over_stream(query, server, how))
        except DeadlineExceeded:
            if now() < until:
                why = f"no answer from {called} within {duration(patience)}"
                continue
            if odd:
                raise _failure(Exit.PROTOCOL, host, "what came is no answer", map(how.name, odd)) from None
            reason = f"no answer within {duration(how.timeout)}"
            raise _failure(Exit.TIMEOUT, host, reason, map(how.name, servers)) from None
        except Failure as failure:
            failed.add(server)
            if len(failed) == len(set(servers)):
                if failure.exit is Exit.RESOLVE:  # of the server's own name
                    raise
                exit = failure.exit if failure.exit in _TOLD else Exit.RESOLVE
                raise _failure(exit, host, failure.reason, map(how.name, servers)) from failure
            why = f"{called}: {failure.reason}"
            continue
        if answer.rcode() == dns.rcode.FORMERR and query.edns >= 0:
            query.use_edns(-1)  # a server of old
            why = f"{called} knows no EDNS"
            continue
        if answer.rcode() in _NEXT:
            failed.add(server)
            if len(failed) < len(set(servers)):
                why = f"{called} answers {dns.rcode.to_text(answer.rcode())}"
                continue
        how.observe(Replied(host, kind, called, protocol, now() - asked))
        return _read(answer, host, kind, called, protocol)
    raise AssertionError("turns never end")


async def _over_udp(query: dns.message.Message, server: Endpoint, odd: set[Endpoint]) -> dns.message.Message:
    """Return the answer to a query, which may be cut short; who says what is no answer is noted as ``odd``."""
    sock = await udp.connect(server)
    try:
        await sock.send(query.to_wire())
        while True:
            data, _ = await sock.receive()
            try:
                return _parse(query, data)
            except Failure:
                odd.add(server)
    finally:
        sock.close()


async def _over_stream(query: dns.message.Message, server: Endpoint, how: Asking) -> dns.message.Message:
    """Return the answer to a query, whole (RFC 7766)."""
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
    """Return the answer to a query, which is posted to the server's URL."""
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
    """A connection to a server for one question, which is ended once that is answered."""
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
    """Return the message if it answers the query. One that is cut short need not be whole."""
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
    """Return a message with records that cannot be read: in its answer they are bytes, as RFC 3597 has them.

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
    except (dns.exception.DNSException, AttributeError) as error:  # the latter of an alias that is unreadable
        raise _failure(Exit.PROTOCOL, host, "what came is no answer", [server]) from error
    canonical = chain.canonical_name
    wanted = dns.rdatatype.from_text(kind)
    found = [each for each in answer.answer if each.name == canonical and each.rdtype == wanted]  # RRSIG: one per type
    records = tuple((kind, rdata.to_text(), each.ttl, _strings(rdata)) for each in found for rdata in each)
    return Reply(records, canonical.to_text(omit_final_dot=True), server, protocol)


def _failure(exit: Exit, host: str, reason: str, servers: Iterable[str]) -> Failure:
    return Failure(exit, f"resolve {host}", reason, detail=", ".join(servers))
