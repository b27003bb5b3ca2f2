"""``--starttls`` with servers that work and with servers that fail."""

import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

from netkit.cli.layers import STARTTLS
from tests.support import Finished, exchange, netkit, peer, read_all, reset, running
from tests.support.certificates import Pki
from tests.support.peers import drip, is_reset, outlast, server_socket
from tests.support.processes import sound
from tests.support.starttls import (
    Dialogue,
    dialogue,
    ldap_response,
    mysql_greeting,
    mysql_packet,
    postgres_error,
    secured_echo,
    speak,
)

PROTOCOLS = pytest.mark.parametrize("protocol", STARTTLS)
AT_ONCE = ("--shutdown-after", "0")
HERE = "127.0.0.1"


def turns(protocol: str) -> Dialogue:
    """Return the server's dialogue with a local client that uses the server's IP address as its name."""
    return dialogue(protocol, f"[{HERE}]", HERE)


def server_of(pki: Pki, protocol: str) -> Callable[[socket.socket], bytes]:
    """Return a server that echoes data once it is secured."""
    context = pki.server()
    return lambda sock: secured_echo(sock, turns(protocol), context)


# -- working servers


@PROTOCOLS
def test_connect_talks_after_the_handshake(pki: Pki, protocol: str) -> None:
    """Data goes over TLS both ways, nothing of the dialogue is printed, and -v describes the TLS session."""
    with peer(server_of(pki, protocol)) as server:
        words = ("--starttls", protocol, "--cafile", pki.ca, *AT_ONCE)
        done = netkit("connect", server.address, *words, "-v", input=b"secret")
        assert server.result() == b"secret"
    assert (done.code, done.out) == (0, b">secret"), done.err
    assert "secured by TLSv1.3 with " in done.err, done.err


@PROTOCOLS
def test_a_server_may_speak_byte_by_byte(pki: Pki, protocol: str) -> None:
    """Answers may arrive byte by byte."""
    context = pki.server()

    def serve(sock: socket.socket) -> bytes:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for ours, theirs in turns(protocol):
            drip(sock, ours, 0)
            speak(sock, [(b"", theirs)])
        return secured_echo(sock, (), context)

    with peer(serve) as server:
        done = netkit("connect", server.address, "--starttls", protocol, "--cafile", pki.ca, *AT_ONCE, input=b"hi")
    assert done == Finished(0, b">hi", "")


@PROTOCOLS
def test_portcheck_looks_at_the_certificate(pki: Pki, protocol: str) -> None:
    """portcheck reports the TLS version and verifies the certificate, also with --expires."""
    ending = pki.bad("ending")
    context = pki.server(ending)

    def serve(sock: socket.socket) -> bytes:
        speak(sock, turns(protocol))
        with context.wrap_socket(sock, server_side=True) as secured:
            data = read_all(secured)
            secured.unwrap()
            return data

    with peer(serve) as server:
        words = ("portcheck", server.address, "--starttls", protocol, "--cafile", pki.ca)
        done = netkit(*words)
        assert done.code == 0, done
        assert server.result() == b""
        assert b"\topen\t" in done.out and b"TLSv1.3" in done.out, done.out
        assert netkit(*words, "--expires", "264h").code == 60


@pytest.mark.parametrize("protocol", [name for name in STARTTLS if name != "mysql"])
def test_a_plain_client_reaches_it_by_a_relay(pki: Pki, protocol: str) -> None:
    """A relay gives plain clients access to the server, with its own greeting if the server speaks first."""
    greetings = {
        "smtp": b"220 127.0.0.1 ESMTP\r\n",
        "lmtp": b"220 127.0.0.1 LMTP\r\n",
        "imap": b"* OK 127.0.0.1\r\n",
        "pop3": b"+OK 127.0.0.1\r\n",
        "ftp": b"220 127.0.0.1\r\n",
        "nntp": b"200 127.0.0.1\r\n",
    }
    with (
        peer(server_of(pki, protocol)) as server,
        running("relay", "127.0.0.1:0", server.address, "--starttls", protocol, "--cafile", pki.ca, *AT_ONCE) as relay,
    ):
        port = relay.port
        for word in (b"one", b"two"):
            assert exchange(port, word) == greetings.get(protocol, b"") + b">" + word


def test_both_sides_of_a_relay_may_be_secured(pki: Pki) -> None:
    """Both sides of a relay may use TLS: --cert is for its clients and --cafile for its target."""
    far = ("--starttls", "ldap", "--cafile", pki.ca, *AT_ONCE)
    with (
        peer(server_of(pki, "ldap")) as server,
        running("relay", "tls:127.0.0.1:0", server.address, *far, *pki.good.options()) as relay,
    ):
        done = netkit("connect", f"tls:{HERE}:{relay.port}", "--cafile", pki.ca, *AT_ONCE, input=b"hi")
    assert done == Finished(0, b">hi", "")


def test_over_a_unix_socket(pki: Pki) -> None:
    """Over a unix socket --servername is needed, as there is no host name to verify."""
    address, listener = server_socket("unix")
    context = pki.server()
    results: list[Any] = []

    def serve() -> None:
        with listener.accept()[0] as sock:
            results.append(secured_echo(sock, dialogue("smtp", "localhost"), context))

    with listener:
        thread = threading.Thread(target=serve)
        thread.start()
        words = ("--starttls", "smtp", "--cafile", pki.ca)
        assert "--servername" in netkit("connect", address, *words).err
        done = netkit("connect", address, *words, "--servername", "localhost", *AT_ONCE, input=b"hi")
        thread.join()
    assert (done, results) == (Finished(0, b">hi", ""), [b"hi"])


@pytest.mark.ipv6
@pytest.mark.parametrize("protocol", ["smtp", "xmpp"])
def test_who_is_called_what(pki: Pki, protocol: str) -> None:
    """The client introduces itself by its address, and asks for the name of --servername."""
    context = pki.server()
    said = dialogue(protocol, "[IPv6:::1]", "localhost")
    with peer(lambda sock: secured_echo(sock, said, context), "::1") as server:
        words = ("--starttls", protocol, "--servername", "localhost", "--cafile", pki.ca, *AT_ONCE)
        assert netkit("connect", server.address, *words, input=b"hi") == Finished(0, b">hi", "")


def test_a_certificate_that_is_not_acceptable(pki: Pki) -> None:
    """A certificate that is not trusted is exit code 60, and no input is sent."""
    with peer(server_of(pki, "imap")) as server:
        done = sound(netkit("connect", server.address, "--starttls", "imap", input=b"secret"), 60)
        assert isinstance(server.result(), ssl.SSLError)
    assert f"cannot trust {server.address}: " in done.err


def test_it_goes_behind_the_proxy_header(pki: Pki) -> None:
    """With --send-proxy the PROXY header comes before the server's greeting."""
    context = pki.server()

    def serve(sock: socket.socket) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            line += sock.recv(1)
        secured_echo(sock, turns("pop3"), context)
        return line

    with peer(serve) as server:
        words = ("--send-proxy", "v1", "--starttls", "pop3", "--cafile", pki.ca, *AT_ONCE)
        assert netkit("connect", server.address, *words, input=b"hi") == Finished(0, b">hi", "")
        assert server.result().startswith(b"PROXY TCP4 ")


# -- failing servers

NOT_OFFERED = {
    **dict.fromkeys(("smtp", "lmtp"), ((b"220 hi\r\n", b"?HLO [127.0.0.1]\r\n"), (b"250 mail\r\n", b""))),
    "imap": ((b"* OK\r\n", b"a CAPABILITY\r\n"), (b"* CAPABILITY IMAP4rev1\r\na OK\r\n", b"")),
    "pop3": ((b"+OK\r\n", b"CAPA\r\n"), (b"+OK\r\nUSER\r\n.\r\n", b"")),
    "ftp": ((b"220 hi\r\n", b"AUTH TLS\r\n"), (b"500 what?\r\n", b"")),
    "nntp": ((b"200 hi\r\n", b"CAPABILITIES\r\n"), (b"101 list\r\nREADER\r\n.\r\n", b"")),
    "sieve": ((b'"SIEVE" ""\r\nOK\r\n', b""),),
    "ldap": ((b"", turns("ldap")[0][1]), (ldap_response(2, b"unsupported"), b"")),
    "xmpp": (turns("xmpp")[0], (b"<stream:stream><stream:features/>", b"")),
    "irc": ((b"", b"STARTTLS\r\n"), (b":irc 421 * STARTTLS :Unknown command\r\n", b"")),
    "postgres": (turns("postgres")[0], (b"N", b"")),
    "mysql": ((mysql_greeting(0xF7FF), b""),),
}
# For each protocol a refusal, in place of the go-ahead or of the greeting, and the reason that netkit prints for it.
REFUSALS = {
    **dict.fromkeys(("smtp", "lmtp"), (b"454 no TLS \x1b[31m\r\n", r"it refused STARTTLS: 454 no TLS \x1b[31m")),
    "imap": (b"b NO \x1b later\r\n", r"it refused STARTTLS: b NO \x1b later"),
    "pop3": (b"-ERR \xff no\r\n", r"it refused STLS: -ERR \xff no"),
    "ftp": (b"534-not\r\n534 now\r\n", "it refused AUTH TLS: 534-not 534 now"),
    "nntp": (b"580 cannot\r\n", "it refused STARTTLS: 580 cannot"),
    "sieve": (b'NO "later"\r\n', 'it refused STARTTLS: NO "later"'),
    "ldap": (ldap_response(53, b"not \x07"), r"it refused STARTTLS: result 53 (unwillingToPerform) not \x07"),
    "xmpp": (b"<failure><text>\xc2\x9b</text></failure>", r"it refused STARTTLS: failure \x9b"),
    "irc": (b":x 691 * :no\r\n", "it refused STARTTLS: :x 691 * :no"),
    "postgres": (postgres_error(b"no \x1b room"), r"it refused TLS: no \x1b room"),
    "mysql": (mysql_packet(b"\xff\x10\x04Too many \x1b"), r"it refused the connection: Too many \x1b"),
}
ENDLESS = {
    **{"ldap": b"\x30\x83\1\0\0", "mysql": b"\xff\xff\0\0\n", "postgres": b"E", "xmpp": b"<a b='", "irc": b":x "},
    **{"imap": b"* OK ", "pop3": b"+OK "},
}
STRAY = {"ldap": ldap_response(0), "xmpp": b"<success/>", "postgres": b"S", "mysql": mysql_packet(b"\0\0\0\2\0\0\0", 2)}


def outcome(protocol: str, serve: Callable[[socket.socket], Any], *options: str) -> tuple[Finished, Any]:
    """Run connect with a server that does this; return how it failed, and what the server returned."""
    with peer(serve) as server:
        done = netkit("connect", server.address, "--starttls", protocol, *options, input=b"secret")
        begin = f"netkit connect: cannot secure the connection to {server.address}: "
        assert done.out == b"" and done.err.startswith(begin), done
        sound(done, done.code)
        return done._replace(err=done.err.removeprefix(begin).strip()), server.result()


def until_the_last(protocol: str) -> tuple[Dialogue, bytes]:
    """Return the dialogue before the go-ahead, and the go-ahead itself."""
    *before, (last, _) = turns(protocol)
    return tuple(before), last


@PROTOCOLS
def test_an_answer_behind_the_go_ahead(protocol: str) -> None:
    """Plain text right after the go-ahead is refused before the ClientHello, as an attacker may have injected it."""
    before, last = until_the_last(protocol)

    def serve(sock: socket.socket) -> bytes:
        speak(sock, [*before, (last + STRAY.get(protocol, b"250 injected\r\n"), b"")])
        return read_all(sock)

    done, came = outcome(protocol, serve)
    assert (done.code, done.err) == (
        8,
        f"it sent plain text behind its go-ahead for TLS (--starttls {protocol})",
    )
    assert came == b"" or isinstance(came, ConnectionResetError)


@PROTOCOLS
def test_an_answer_in_place_of_the_handshake(protocol: str) -> None:
    """Plain text in place of the TLS handshake is refused too, and no input is sent."""

    def serve(sock: socket.socket) -> bytes:
        speak(sock, turns(protocol))
        hello = sock.recv(1)
        sock.sendall(b"250 injected\r\n")
        return hello + read_all(sock)

    done, came = outcome(protocol, serve)
    assert (done.code, done.err) == (8, f"it sent plain text behind its go-ahead for TLS (--starttls {protocol})")
    assert isinstance(came, ConnectionResetError) or (came.startswith(b"\x16") and b"secret" not in came)


@PROTOCOLS
def test_a_server_that_does_not_offer_it(protocol: str) -> None:
    """A server without STARTTLS is exit code 8, before the ClientHello or any input is sent."""

    def serve(sock: socket.socket) -> bytes:
        for ours, theirs in NOT_OFFERED[protocol]:
            speak(sock, [(ours, theirs.replace(b"?HLO", b"EHLO" if protocol == "smtp" else b"LHLO"))])
        return read_all(sock)

    done, came = outcome(protocol, serve)
    assert done.code == 8
    refused = {"ftp": "500 what?", "irc": "421 * STARTTLS", "ldap": "result 2 (protocolError) unsupported"}
    assert refused.get(protocol, "it does not offer ") in done.err
    assert came == b"" or isinstance(came, ConnectionResetError)


@PROTOCOLS
def test_a_server_that_refuses(protocol: str) -> None:
    """The server's refusal is in the message, with control characters escaped."""
    before, _ = until_the_last(protocol)
    said, words = REFUSALS[protocol]

    def serve(sock: socket.socket) -> bytes:
        speak(sock, [*before, (said, b"")])
        return read_all(sock)

    done, came = outcome(protocol, serve)
    assert (done.code, done.err) == (8, f"{words} (--starttls {protocol})")
    assert came == b"" or isinstance(came, ConnectionResetError)


@PROTOCOLS
def test_a_server_that_stalls(protocol: str) -> None:
    """-w also limits the time of the dialogue."""
    before, last = until_the_last(protocol)

    def serve(sock: socket.socket) -> None:
        speak(sock, [*before, (last[:-1], b"")])
        outlast(sock)

    done, _ = outcome(protocol, serve, "-w", "500ms")  # long enough for the dialogue before, on any machine
    assert (done.code, done.err) == (28, "no answer within 500 ms (127.0.0.1)")


@PROTOCOLS
def test_a_server_that_ends(protocol: str) -> None:
    """A server that ends before TLS has begun is exit code 8."""
    before, last = until_the_last(protocol)
    for said in ([], [*before, (last[:-1], b"")]):

        def serve(sock: socket.socket, said: Any = said) -> bytes:
            speak(sock, said)
            sock.shutdown(socket.SHUT_WR)
            return read_all(sock)

        done, _ = outcome(protocol, serve)
        assert (done.code, done.err) == (8, f"it ended before TLS began (--starttls {protocol})")


@PROTOCOLS
def test_a_server_that_floods(protocol: str) -> None:
    """Only a limited amount of an endless answer is read."""

    def serve(sock: socket.socket) -> None:
        sock.sendall(ENDLESS.get(protocol, b"220-"))
        while True:
            sock.sendall(bytes(65536).replace(b"\0", b"x"))

    done, came = outcome(protocol, serve)
    assert done.code == 8
    assert "it sent 64 KiB, and no go-ahead for TLS" in done.err or "its answer would be " in done.err
    assert isinstance(came, OSError)


@PROTOCOLS
def test_a_server_of_another_kind(protocol: str) -> None:
    """The answer of a server of another protocol is in the message, escaped."""
    other = b"HTTP/1.1 400 Bad \x1b Request\r\n\r\n"

    def serve(sock: socket.socket) -> bytes:
        sock.sendall(other)
        return read_all(sock)

    done, _ = outcome(protocol, serve)
    assert done.code == 8
    assert r"its answer is malformed: HTTP/1.1 400 Bad \x1b Request" in done.err


def test_a_server_that_resets() -> None:
    """A reset during the dialogue is exit code 56."""
    with peer(reset) as server:
        done = netkit("connect", server.address, "--starttls", "smtp")
        sound(done, 56)
    assert "connection reset" in done.err


def test_portcheck_says_why() -> None:
    """portcheck reports the port as open, with the reason why TLS is not possible."""
    with peer(lambda sock: speak(sock, NOT_OFFERED["postgres"])) as server:
        done = netkit("portcheck", server.address, "--starttls", "postgres")
    assert done.code == 8, done
    assert b"\topen\t" in done.out and b"it does not offer TLS" in done.out


def test_a_relay_resets_the_client_of_a_server_that_refuses() -> None:
    """If the target refuses STARTTLS, a relay resets its client, and one line says why."""

    def serve(sock: socket.socket) -> None:
        speak(sock, [(b"554 no\r\n", b"")])
        read_all(sock)

    with peer(serve) as server, running("relay", "127.0.0.1:0", server.address, "--starttls", "smtp") as relay:
        assert is_reset(relay.port)
        relay.line(r"cannot secure the connection to .*: it refused the connection: 554 no \(--starttls smtp\)")


# -- mistakes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("connect tls:localhost:1 --starttls smtp", "--starttls does not apply: TLS begins at once"),
        ("connect localhost:1 --tls --starttls smtp", "--starttls does not apply: TLS begins at once"),
        ("portcheck localhost:1 tls:localhost:2 --starttls smtp", "--starttls does not apply: TLS begins at once"),
        ("relay 0 tls:localhost:1 --starttls smtp", "--starttls does not apply: TLS begins at once"),
        ("relay 0 localhost:1 --starttls smtp --udp", "--starttls does not apply: datagrams make no connections"),
        ("relay 0 localhost:1 --starttls mysql", "a client of mysql logs in by the greeting that came before TLS"),
        ("portcheck localhost:1 --starttls smtp --udp", "--starttls does not apply: a UDP port has no connection"),
        ("connect localhost:1 --starttls smtps", "'smtps' is none of smtp, lmtp, "),
        ("connect localhost:1 --cafile x", "without --tls, tls: or --starttls nothing is secured"),
        ("connect localhost:1 -starttls smtp", "did you mean '--starttls'?"),
        ("connect -connect localhost:1 -starttls smtp", "no such option '-connect': the address needs no option"),
        ("connect localhost:1 --tls -CAfile ca.pem", "no such option '-CAfile': --cafile FILE has the authorities"),
        ("listen 0 --starttls smtp", "no such option '--starttls'"),
    ],
)
def test_what_does_not_go_together(words: str, message: str) -> None:
    """Options that do not go together are exit code 2."""
    done = netkit(*words.split())
    assert done.code == 2 and message in done.err, done
