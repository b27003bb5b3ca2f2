"""``netkit portcheck --proxy``: states of ports as a proxy reports them."""

import json
import socket
from typing import Any

import pytest

from tests.support import free_port, netkit, peer
from tests.support.certificates import Pki
from tests.support.peers import outlast, read_all, receive
from tests.support.proxies import (
    GRANTED,
    GREETING,
    NO_AUTHENTICATION,
    REQUEST,
    REQUEST_4A,
    SOCKS5,
    TARGET,
    Step,
    http,
    scripted,
)


def reply(code: int) -> list[Step]:
    """Return the SOCKS5 dialogue with this reply code."""
    return [(GREETING, NO_AUTHENTICATION), (REQUEST, b"\5" + bytes([code]) + GRANTED[2:])]


def checked(url: str, *words: str, target: str = TARGET) -> tuple[int, dict[str, Any]]:
    """Return the exit code, and the result from --json."""
    done = netkit("portcheck", target, "--proxy", url, "--json", *words)
    [told] = [json.loads(line) for line in done.out.splitlines()]
    return done.code, told


@pytest.mark.parametrize(
    ("scheme", "steps", "state", "code", "reason"),
    [
        ("socks5h", SOCKS5, "open", 0, None),
        ("socks5h", reply(5), "closed", 7, "connection refused"),
        ("socks5h", reply(3), "unreachable", 7, "network is unreachable"),
        ("socks5h", reply(4), "unreachable", 7, "no route to host"),
        ("socks5h", reply(6), "filtered", 28, "connection timed out"),
        ("socks5h", reply(2), "unknown", 97, "cannot connect to {target} through proxy {proxy}: its rules forbid it"),
        ("socks5h", reply(1), "unknown", 97, "cannot connect to {target} through proxy {proxy}: general failure"),
        ("socks5h", reply(8), "unknown", 97, "{target} through proxy {proxy}: it does not know this type of address"),
        (
            "socks4a",
            [(REQUEST_4A, b"\0\x5b" + bytes(6))],
            "unreachable",
            7,
            "the proxy rejected the request, or it failed",
        ),
        ("http", http(b"HTTP/1.1 503 No\r\n\r\n"), "unreachable", 7, "the proxy answered 503 No"),
        ("http", http(b"HTTP/1.1 504 Late\r\n\r\n"), "filtered", 28, "the proxy answered 504 Late"),
        ("http", http(b"HTTP/1.1 403 No\r\n\r\n"), "unknown", 97, "{target} through proxy {proxy}: it answered 403 No"),
    ],
)
def test_states(scheme: str, steps: Any, state: str, code: int, reason: str | None) -> None:
    """The proxy's reply about the target gives its state; a failure of the proxy itself is unknown."""
    with peer(scripted(steps, read_all)) as proxy:
        url = f"{scheme}://{proxy.address}"
        exit, told = checked(url)
    assert (exit, told["state"], told.get("address"), told["exit_code"]) == (code, state, None, code)
    assert (told.get("reason") or "").endswith((reason or "").format(target=TARGET, proxy=url))


def test_a_closed_port_may_be_what_is_wanted() -> None:
    """--closed works through a proxy, and the result has the target's address if it is known."""
    request = b"\5\1\0\1\xc0\0\2\1\0\x09"
    with peer(scripted([(GREETING, NO_AUTHENTICATION), (request, b"\5\5\0\1" + bytes(6))], read_all)) as proxy:
        code, told = checked(f"socks5h://{proxy.address}", "--closed", target="192.0.2.1:9")
    assert (code, told["state"], told["address"]) == (0, "closed", "192.0.2.1")


def test_a_proxy_that_is_silent_or_not_there() -> None:
    """If the proxy does not reply about the target, it is filtered; a proxy that is missing makes it unknown."""
    with peer(scripted([(GREETING, NO_AUTHENTICATION), (REQUEST, b"")], outlast)) as proxy:
        code, told = checked(f"socks5h://{proxy.address}", "-w", "1s")
        assert (code, told["state"], told["reason"]) == (28, "filtered", "no answer within 1 s")
    url = f"socks5h://127.0.0.1:{free_port()}"
    code, told = checked(url)
    assert (code, told["state"]) == (7, "unknown")
    assert told["reason"] == f"cannot connect to proxy {url} for {TARGET}: connection refused"
    code, told = checked("http://nosuch.invalid")
    assert (code, told["state"]) == (5, "unknown")


def test_names_are_looked_up_here_where_the_scheme_says_so() -> None:
    """With socks5:// netkit looks the name up, and the result has the address."""
    asked: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        receive(sock, len(GREETING))
        sock.sendall(NO_AUTHENTICATION)
        asked.append(receive(sock, 10))
        sock.sendall(GRANTED)
        read_all(sock)

    with peer(serve) as proxy:
        code, told = checked(f"socks5://{proxy.address}", target="localhost:9")
    assert (code, told["state"], told["address"]) == (0, "open", "127.0.0.1")
    assert asked == [b"\5\1\0\1\x7f\0\0\1\0\x09"]


def test_what_is_asked_of_the_port_goes_through_too(pki: Pki) -> None:
    """--expect, TLS and --wait work through a proxy."""
    with peer(scripted(SOCKS5, lambda sock: (sock.sendall(b"220 ready\r\n"), read_all(sock)))) as proxy:
        code, told = checked(f"socks5h://{proxy.address}", "--expect", "^220")
        assert code == 0 and told["text"].startswith("220")
    context = pki.server()

    def secured(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as server:
            server.unwrap()

    granted = [(GREETING, NO_AUTHENTICATION), (REQUEST.replace(b"\x0btarget.test", b"\x09localhost"), GRANTED)]
    with peer(scripted(granted, secured)) as proxy:
        code, told = checked(f"socks5h://{proxy.address}", "--cafile", pki.ca, target="tls:localhost:9")
        assert code == 0, told
        assert "localhost" in told["tls"]["names"]
    answers = [reply(5), reply(1), SOCKS5]
    with peer(lambda sock: scripted(answers.pop(0), read_all)(sock)) as proxy:
        assert checked(f"socks5h://{proxy.address}", "--wait", "15s")[0] == 0


def test_many_ports_through_a_proxy_of_ours() -> None:
    """Each port is checked over a connection of its own, and has its own state."""
    with peer(read_all) as server:
        port = server.port

        def serve(sock: socket.socket) -> None:
            receive(sock, len(GREETING))
            sock.sendall(NO_AUTHENTICATION)
            asked = int.from_bytes(receive(sock, len(REQUEST))[-2:])
            sock.sendall(b"\5" + (b"\0" if asked == port else b"\5") + GRANTED[2:])
            read_all(sock)

        with peer(serve) as proxy:
            words = ("--proxy", f"socks5h://{proxy.address}", "--any", "--all", "-w", "20s")
            done = netkit("portcheck", f"target.test:1-40,{port}", *words)
    states = [line.split(b"\t")[3] for line in done.out.splitlines()]
    assert done.code == 0
    assert states.count(b"open") == 1 and set(states) <= {b"open", b"closed"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["h:80", "--udp"], "--proxy does not apply: a UDP port has no connection"),
        ([":80"], "address ':80' is this machine: write the host"),
        (["h:80", "--cafile", "f"], "--cafile does not apply: without --tls, tls: or --starttls"),
    ],
)
def test_mistakes(words: list[str], message: str) -> None:
    """A usage error is exit code 2."""
    done = netkit("portcheck", *words, "--proxy", "http://p")
    assert (done.code, done.out) == (2, b"")
    assert message in done.err


def test_the_password_is_not_told() -> None:
    """The password of a proxy is in no output."""
    steps = [(b"\5\2\0\2", b"\5\2"), (b"\1\2me\7hunter2", b"\1\1")]
    with peer(scripted(steps, read_all)) as proxy:
        for words in ([], ["--json"], ["-vv"]):
            done = netkit("portcheck", TARGET, "--proxy", f"socks5h://me:hunter2@{proxy.address}", *words)
            assert done.code == 97
            assert "hunter2" not in done.err and b"hunter2" not in done.out
