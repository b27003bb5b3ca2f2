"""DNS itself: dnspython's messages over our datagrams, and over a stream where an answer does not fit into one.

Each try has a random id, from a port that the system chooses at random; what does not answer it is not heard.
"""

import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import count
from typing import NamedTuple

import dns.entropy
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.reversename

from netkit.core import udp
from netkit.core.address import Endpoint, family_of
from netkit.core.dial import Dialling, dial
from netkit.core.errors import Exit, Failure, Invalid
from netkit.core.kernel import DeadlineExceeded, Group, deadline, now
from netkit.core.layer import Layer
from netkit.core.units import duration

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


_MALFORMED = (dns.exception.DNSException, ValueError, IndexError, struct.error)


class Reply(NamedTuple):
    """What a server said: maybe no record at all. ``canonical`` is the name at the end of the aliases.

    ``records`` are their type, their value as zone files write it, which is printable ASCII, and their TTL in seconds.
    """

    records: tuple[tuple[str, str, int], ...]
    canonical: str
    server: Endpoint
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


async def ask(
    host: str, kind: str, servers: Sequence[Endpoint], begun: float, timeout: float, layers: Sequence[Layer] = ()
) -> Reply:
    """Ask the servers, one after the other and all over again, for records of a name; of an address, for its name.

    ``timeout`` seconds are counted from ``begun``; with ``layers`` it is DNS over TLS (RFC 7858). Raises Failure:
    RESOLVE if there is no such name, PROTOCOL if what came means nothing, TIMEOUT; CERT, TLS and PARTIAL as TLS does.
    """
    if family_of(host) is not None:
        name = dns.reversename.from_address(host.partition("%")[0])
    else:
        name = dns.name.from_text(host)
    query = dns.message.make_query(name, kind, use_edns=0, payload=_PAYLOAD)
    until = begun + timeout
    failed: set[Endpoint] = set()
    odd: set[Endpoint] = set()
    for turn in count():
        server = servers[turn % len(servers)]
        query.id = dns.entropy.random_16()
        protocol = "tls" if layers else "udp"
        try:
            if protocol == "udp":
                with deadline(min(until, now() + _FIRST_PAUSE * 2.0 ** (turn // len(servers)))):
                    answer = await _over_udp(query, server, odd)
                if answer.flags & dns.flags.TC:
                    protocol = "tcp"
            if protocol != "udp":
                with deadline(until):
                    answer = await _over_stream(query, server, layers)
        except DeadlineExceeded:
            if now() < until:
                continue
            if odd:
                raise _failure(Exit.PROTOCOL, host, "what came is no answer", odd) from None
            reason = f"no answer within {duration(timeout)}"
            raise _failure(Exit.TIMEOUT, host, reason, servers) from None
        except Failure as failure:
            failed.add(server)
            if len(failed) == len(set(servers)):
                if failure.exit is Exit.RESOLVE:  # of the server's own name
                    raise
                exit = failure.exit if failure.exit in _TOLD else Exit.RESOLVE
                raise _failure(exit, host, failure.reason, servers) from failure
            continue
        if answer.rcode() == dns.rcode.FORMERR and query.edns >= 0:
            query.use_edns(-1)  # a server of old
            continue
        if answer.rcode() in _NEXT:
            failed.add(server)
            if len(failed) < len(set(servers)):
                continue
        return _read(answer, host, kind, server, protocol)
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


async def _over_stream(query: dns.message.Message, server: Endpoint, layers: Sequence[Layer]) -> dns.message.Message:
    """Return the answer to a query, whole (RFC 7766)."""
    how = Dialling(timeout=_FOREVER, layers=layers)
    async with Group() as group:
        stream = await dial(server, how, group=group)
        try:
            wire = query.to_wire()
            await stream.send(len(wire).to_bytes(2, "big") + wire)
            data = b""
            while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
                chunk = await stream.recv()
                if not chunk:
                    raise Failure(Exit.PROTOCOL, f"ask {server}", "it ended before its answer did")
                data += chunk
            answer = _parse(query, data[2 : 2 + int.from_bytes(data[:2], "big")])
            with suppress(Failure):
                await stream.send_eof()
        finally:
            group.cancel()
            stream.close()
    return answer


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


def _read(answer: dns.message.Message, host: str, kind: str, server: Endpoint, protocol: str) -> Reply:
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
    records = tuple((kind, rdata.to_text(), each.ttl) for each in found for rdata in each)
    return Reply(records, canonical.to_text(omit_final_dot=True), server, protocol)


def _failure(exit: Exit, host: str, reason: str, servers: Iterable[Endpoint]) -> Failure:
    return Failure(exit, f"resolve {host}", reason, detail=", ".join(map(str, servers)))
