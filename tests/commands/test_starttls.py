"""``--starttls`` with servers that work and with servers that fail."""

import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from netkit.cli.layers import STARTTLS
from netkit.protocols.starttls.dialogue import INJECTED
from tests.support import Finished, exchange, netkit, peer, read_all, reset, running
from tests.support.certificates import Pki
from tests.support.peers import is_reset, outlast, read_until, server_socket
from tests.support.processes import sound
from tests.support.refusals import refused
from tests.support.starttls import Dialogue, dialogue, secured_echo, speak

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


@pytest.mark.parametrize("protocol", ["smtp", "postgres"])
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


@pytest.mark.parametrize(("protocol", "greeting"), [("imap", b"* OK 127.0.0.1\r\n"), ("ldap", b"")])
def test_a_plain_client_reaches_it_by_a_relay(pki: Pki, protocol: str, greeting: bytes) -> None:
    """A relay gives plain clients access to the server, with its own greeting if the server speaks first."""
    with (
        peer(server_of(pki, protocol)) as server,
        running("relay", "127.0.0.1:0", server.address, "--starttls", protocol, "--cafile", pki.ca, *AT_ONCE) as relay,
    ):
        port = relay.port
        for word in (b"one", b"two"):
            assert exchange(port, word) == greeting + b">" + word


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
        line = read_until(sock, b"\r\n")
        secured_echo(sock, turns("pop3"), context)
        return line

    with peer(serve) as server:
        words = ("--send-proxy", "v1", "--starttls", "pop3", "--cafile", pki.ca, *AT_ONCE)
        assert netkit("connect", server.address, *words, input=b"hi") == Finished(0, b">hi", "")
        assert server.result().startswith(b"PROXY TCP4 ")


# -- failing servers

*BEFORE, (GO_AHEAD, _) = turns("smtp")
# What an SMTP server says, and why that is refused.
REFUSED: dict[str, tuple[Sequence[tuple[bytes, bytes]], str]] = {
    "not offered": ([(b"220 hi\r\n", BEFORE[0][1]), (b"250 mail\r\n", b"")], "it does not offer STARTTLS"),
    "refused": ([*BEFORE, (b"454 no \x1b[31m\r\n", b"")], r"it refused STARTTLS: 454 no \x1b[31m"),
    "another protocol": ([(b"SSH-2.0 \x1b\r\n", b"")], r"its answer is malformed: SSH-2.0 \x1b"),
    "more than its go-ahead": ([*BEFORE, (GO_AHEAD + b"250 injected\r\n", b"")], INJECTED),
}


def failed(serve: Callable[[socket.socket], Any], code: int, reason: str, *options: str) -> Any:
    """Run connect with an SMTP server that does this; check how it fails, and return what the server returned."""
    with peer(serve) as server:
        done = sound(netkit("connect", server.address, "--starttls", "smtp", *options, input=b"secret"), code)
        line = f"netkit connect: cannot secure the connection to {server.address}: {reason}\n"
        assert (done.out, done.err) == (b"", line)
        return server.result()


@pytest.mark.parametrize("case", REFUSED)
def test_a_server_that_is_refused(case: str) -> None:
    """The reason has the server's words, escaped, and neither a ClientHello nor any input is sent."""
    said, reason = REFUSED[case]

    def serve(sock: socket.socket) -> bytes:
        speak(sock, said)
        return read_all(sock)

    came = failed(serve, 8, f"{reason} (--starttls smtp)")
    assert came == b"" or isinstance(came, ConnectionResetError)


def test_a_server_that_stalls() -> None:
    """-w also limits the time of the dialogue."""

    def serve(sock: socket.socket) -> None:
        speak(sock, [*BEFORE, (GO_AHEAD[:-1], b"")])
        outlast(sock)

    failed(serve, 28, "no answer within 2 s (127.0.0.1)", "-w", "2s")  # long enough for what is before


@pytest.mark.parametrize("said", [[], [*BEFORE, (GO_AHEAD[:-1], b"")]])
def test_a_server_that_ends(said: Sequence[tuple[bytes, bytes]]) -> None:
    """A server that ends before TLS has begun is exit code 8."""

    def serve(sock: socket.socket) -> bytes:
        speak(sock, said)
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)

    failed(serve, 8, "it ended before TLS began (--starttls smtp)")


def test_a_server_that_resets() -> None:
    """A reset during the dialogue is exit code 56."""
    with peer(reset) as server:
        done = netkit("connect", server.address, "--starttls", "smtp")
        sound(done, 56)
    assert "connection reset" in done.err


def test_portcheck_says_why() -> None:
    """portcheck reports the port as open, with the reason why TLS is not possible."""
    with peer(lambda sock: speak(sock, [*turns("postgres")[:1], (b"N", b"")])) as server:
        done = netkit("portcheck", server.address, "--starttls", "postgres")
    assert done.code == 8, done
    assert b"\topen\t" in done.out and b"it does not offer TLS" in done.out


@pytest.mark.parametrize("words", [b"", b"220 ready\r\n"])
def test_a_port_that_resets_before_tls(words: bytes) -> None:
    """A reset amid the dialogue is a wrong answer, as an end is."""

    def serve(client: socket.socket) -> None:
        client.sendall(words)
        if words:
            client.recv(100)
        reset(client)

    with peer(serve) as server:
        done = netkit("portcheck", server.address, "--starttls", "smtp")
    assert (done.code, done.out.split(b"\t")[3:6:2]) == (8, [b"open", b"connection reset by peer\n"])
    assert "open: connection reset by peer (127.0.0.1, after " in done.err


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
        ("portcheck localhost:1 tls:localhost:2 --starttls smtp", "--starttls does not apply: TLS begins at once"),
        ("connect localhost:1 --starttls smtps", "--starttls: 'smtps' is none of smtp, lmtp, "),
        ("connect localhost:1 -starttls smtp", "no such option '-starttls', did you mean '--starttls'?"),
        ("listen 0 --starttls smtp", "no such option '--starttls'"),
    ],
)
def test_what_does_not_go_together(words: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Addresses with tls: need no STARTTLS, and only a known protocol has it; tests/cli/test_rules.py has the rest."""
    assert refused(capfd, *words.split()).startswith(message)
