"""How servers are asked one after the other, and how the values of DNS records are compared."""

from collections.abc import Iterator
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from netkit.core.address import Endpoint
from netkit.core.errors import Exit, Failure, Invalid
from netkit.core.kernel import now, sleep
from netkit.protocols import dns as ours
from netkit.protocols.dns import Asking, ask, comparable
from netkit.services.resolve import Query, answer
from tests.clock import run


def answer_of(query: dns.message.Message, said: str) -> dns.message.Message:
    """Return an answer with this code; "old" is FORMERR to a query with EDNS, and "cut" has the flag TC."""
    answer = dns.message.make_response(query)
    if said == "old":
        said = "NOERROR" if query.edns < 0 else "FORMERR"
    if said == "cut":
        answer.flags |= dns.flags.TC
    elif said == "NOERROR":
        answer.answer.append(dns.rrset.from_text("x.test.", 60, "IN", "A", "192.0.2.1"))
    answer.set_rcode(dns.rcode.from_text("NOERROR" if said == "cut" else said))
    return answer


def asked(monkeypatch: pytest.MonkeyPatch, says: dict[str, str]) -> tuple[str, str, float]:
    """Return which of the servers, each of which says something in turn, were asked, the result, and the seconds."""
    turns: dict[str, Iterator[str]] = {name: iter(words.split()) for name, words in says.items()}
    order = ""

    async def over_udp(self: Any, query: dns.message.Message, server: Endpoint) -> dns.message.Message:
        nonlocal order
        order += server.host or ""
        said = next(turns[server.host or ""])
        if said == "odd":
            self.odd.add(server)
        if said in ("silent", "odd"):
            await sleep(3600)
        if said == "refused":
            raise Failure(Exit.CONNECT, "ask", "connection refused")
        return answer_of(query, said)

    async def over_stream(query: dns.message.Message, server: Endpoint, how: Asking) -> dns.message.Message:
        nonlocal order
        order += "T"
        return answer_of(query, "NOERROR")

    async def main() -> tuple[str, str, float]:
        try:
            reply = await ask("x.test", "A", Asking([Endpoint(name, 53) for name in says], now(), 10.0))
        except Failure as failure:
            return order, f"{failure.exit.name} {failure.reason} ({failure.detail})", now()
        return order, f"{reply.records[0][1]} {reply.server} {reply.protocol}", now()

    monkeypatch.setattr("netkit.protocols.dns._Datagrams.ask", over_udp)
    monkeypatch.setattr(ours, "_over_stream", over_stream)
    return run(main())


@pytest.mark.parametrize(
    ("says", "order", "result", "seconds"),
    [
        ({"a": "silent NOERROR"}, "aa", "192.0.2.1 a:53 udp", 1),
        ({"a": "silent silent silent NOERROR"}, "aaaa", "192.0.2.1 a:53 udp", 7),
        ({"a": "silent silent", "b": "silent NOERROR"}, "abab", "192.0.2.1 b:53 udp", 4),
        ({"a": "silent " * 4}, "aaaa", "TIMEOUT no answer within 10 s (a:53)", 10),
        ({"a": "silent " * 3, "b": "odd silent"}, "ababa", "PROTOCOL what came is no answer (b:53)", 10),
        ({"a": "cut"}, "aT", "192.0.2.1 a:53 tcp", 0),
        ({"a": "old old"}, "aa", "192.0.2.1 a:53 udp", 0),
        ({"a": "old", "b": "NOERROR"}, "ab", "192.0.2.1 b:53 udp", 0),
        *(({"a": said, "b": "NOERROR"}, "ab", "192.0.2.1 b:53 udp", 0) for said in ("refused", "SERVFAIL", "NOTIMP")),
        ({"a": "NXDOMAIN", "b": "NOERROR"}, "a", "RESOLVE name not found (a:53)", 0),
        ({"a": "refused", "b": "REFUSED"}, "ab", "RESOLVE the server refuses to answer (REFUSED) (b:53)", 0),
        ({"a": "SERVFAIL", "b": "refused"}, "ab", "RESOLVE connection refused (a:53, b:53)", 0),
        ({"a": "refused refused", "b": "silent NOERROR"}, "abab", "192.0.2.1 b:53 udp", 1),
    ],
)
def test_servers_are_asked_in_turn(
    monkeypatch: pytest.MonkeyPatch, says: dict[str, str], order: str, result: str, seconds: float
) -> None:
    """A silent server is asked again after 1 s, 2 s ... of patience; the next one is asked after a failure of one."""
    assert asked(monkeypatch, says) == (order, result, pytest.approx(seconds))


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "result"),
    [
        ("NOERROR", "SERVFAIL", "192.0.2.1"),
        ("NOERROR", "silent", "TIMEOUT no answer within 10 s"),
        ("NXDOMAIN", "silent", "RESOLVE name not found"),
        ("silent", "NXDOMAIN", "RESOLVE name not found"),
        ("SERVFAIL", "NXDOMAIN", "RESOLVE temporary failure of the server (SERVFAIL)"),
    ],
)
def test_a_server_fails_for_one_type(monkeypatch: pytest.MonkeyPatch, ipv4: str, ipv6: str, result: str) -> None:
    """An error for one type hides no address of the other (RFC 4074, section 4), but silence does."""

    async def over_udp(self: Any, query: dns.message.Message, server: Endpoint) -> dns.message.Message:
        said = ipv4 if query.question[0].rdtype == dns.rdatatype.A else ipv6
        if said == "silent":
            await sleep(3600)
        return answer_of(query, said)

    async def main() -> str:
        try:
            return str(*(await answer("x.test", Query(timeout=10.0, server=Endpoint("192.0.2.53", 53)))).values)
        except Failure as failure:
            return f"{failure.exit.name} {failure.reason}"

    monkeypatch.setattr("netkit.protocols.dns._Datagrams.ask", over_udp)
    assert run(main()) == result


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("A", "192.0.2.1", "192.0.2.1"),
        ("AAAA", "2001:db8::1", "2001:DB8:0:0::1"),
        ("MX", "10 mail.example.", "010 MAIL.example"),
        ("CAA", '0 issue "ca.example"', "0 issue ca.example"),
        ("TXT", '"one " "two"', "one two"),
        ("TXT", '"one two"', '"one " "two"'),
        ("TXT", r'"\\\"\255"', '\\"\udcff'),
        ("TXT", '""', ""),
        ("A", r"\# 4 c0000201", "192.0.2.1"),
        ("A", r"\# 3 010203", r"\# 3 01 0203"),
        ("TYPE65400", r"\# 2 abcd", r"\# 2 ABCD"),
    ],
)
def test_values_that_are_the_same(kind: str, one: str, other: str) -> None:
    """Spellings of the same value are equal; the first one is how an answer shows it."""
    assert comparable(kind, one) == comparable(kind, other)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("MX", "10 mail.example.", "20 mail.example."),
        ("TXT", '"One"', "one"),
        ("TXT", '"one"', "one two"),
        ("CAA", '0 issue "ca.example"', '0 issue "CA.example"'),
        ("A", r"\# 3 010203", r"\# 3 010204"),
    ],
)
def test_values_that_differ(kind: str, one: str, other: str) -> None:
    """Values differ in numbers, and in the case of letters that are not part of a name."""
    assert comparable(kind, one) != comparable(kind, other)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("A", "::1"),
        ("A", "127.1"),
        ("MX", "mail"),
        ("SRV", ""),
        ("TXT", '"open'),
        ("NS", "a..b"),
        ("A", "\\# 1 0\udcff"),
    ],
)
def test_what_is_no_value(kind: str, text: str) -> None:
    """An invalid value is refused with a message."""
    with pytest.raises(Invalid, match=f"is none of type {kind}"):
        comparable(kind, text)
