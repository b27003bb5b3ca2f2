"""TLS of connect and the servers: what is trusted, what is refused, and that only payload is read and written."""

import contextlib
import json
import os
import queue
import re
import signal
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import pytest

from netkit.cli.app import run
from tests.support import PATIENCE, Finished, Running, died_by, jam, netkit, peer, read_all, reset, running
from tests.support.certificates import Pki
from tests.support.data import DATA, OTHER, amount, check_same
from tests.support.logs import heard, read_log
from tests.support.peers import is_silent, outlast
from tests.support.processes import feed, lost, peak_memory, settle
from tests.support.secured import Cut, Secured, dialled, serving
from tests.support.startup import HEAVY, loaded
from tests.support.terminals import on_terminal

HERE = "127.0.0.1"
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


AT_ONCE = ("--shutdown-after", "0")  # for servers that wait for our end


def trusting(pki: Pki, address: str, end: tuple[str, ...] = AT_ONCE) -> tuple[str, ...]:
    """Return the words of a connect that trusts the test CA, with the options in ``end``."""
    return "connect", f"tls:{address}", "--cafile", pki.ca, *end


def secured(pki: Pki, name: str, *options: str, **popen: Any) -> Any:
    """Run a server over TLS."""
    return running(name, f"tls:{HERE}:0", *pki.good.options(), *options, **popen)


def exchanged(client: Secured, data: bytes) -> bytes:
    """Send data and close_notify while the peer sends, return what it sends up to its close_notify, and close."""
    with client.sock:
        # Two threads may not use one connection: send what surely fits into its buffers, then read.
        for start in range(0, len(data), 50_000):
            client.send(data[start : start + 50_000])
        client.end()
        return client.read_all()


def the_failure(done: Finished) -> str:
    """Return the last line of stderr."""
    return done.err.splitlines()[-1]


# -- every byte, both ways


@pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
def test_connect_carries_every_byte_under_half_close(pki: Pki, version: ssl.TLSVersion) -> None:
    """A server that answers only after our close_notify gets all our data, and its answer is received whole."""
    gate = threading.Event()
    asked: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def answer(client: Secured) -> Any:
        asked.put(client.read_all())
        assert gate.wait(PATIENCE)
        client.send(OTHER)
        client.end()
        read_all(client.sock)
        return client.tls.version()

    with peer(serving(pki.server(minimum_version=version, maximum_version=version), answer)) as server:
        with running(*trusting(pki, server.address), "-v") as client:
            feed(client, DATA)
            check_same(asked.get(timeout=PATIENCE), DATA)
            gate.set()
            check_same(client.read_all(), OTHER)
            done = client.finish()
        assert done.code == 0
        assert server.result() == f"TLSv1.{int(version) - 0x301}"
        assert re.search(r"secured by TLSv1\.[23] with \S+, certificate of localhost, 127\.0\.0\.1, ", done.err)
        assert re.search(r"closed after .*: 293\.0 KiB received, 293\.0 KiB sent", done.err)


def test_a_service_over_tls(pki: Pki) -> None:
    """upper works over TLS for connect and for another client; --stats counts payload."""
    wanted = DATA.upper()
    with secured(pki, "upper", "--max-clients", "2", "--stats") as server:
        port = server.port
        done = netkit(*trusting(pki, f"localhost:{port}"), input=DATA)
        check_same(done.out, wanted)
        assert (done.code, done.err) == (0, "")
        check_same(exchanged(dialled(port, pki.client_context()), DATA[:100_000]), wanted[:100_000])
        done = server.finish()
    assert done.code == 0
    stats = json.loads(the_failure(done))
    assert (stats["bytes_received"], stats["bytes_sent"], stats["bytes_acknowledged"]) == (400_000,) * 3


def test_listen_carries_every_byte(pki: Pki) -> None:
    """listen for one client carries all bytes both ways over TLS, and exits with 0."""
    with secured(pki, "listen", "--log", f"{pki.folder}/listen.log") as server, contextlib.ExitStack() as stack:
        client = stack.enter_context(running(*trusting(pki, f"{HERE}:{server.port}")))
        feeding = [threading.Thread(target=feed, args=who) for who in ((server, OTHER), (client, DATA))]
        for thread in feeding:
            thread.start()
        check_same(server.read_all(), DATA)
        check_same(client.read_all(), OTHER)
        for thread in feeding:
            thread.join()
        assert (server.wait(), client.wait()) == (0, 0)
    records = read_log(pki.folder / "listen.log")
    check_same(heard(records, "received"), DATA)
    check_same(heard(records, "sent"), OTHER)


def test_a_peer_that_ends_first(pki: Pki) -> None:
    """After the peer's close_notify the rest of our input is sent; that the peer no longer reads it is no failure."""

    def leave(client: Secured) -> None:
        client.send(b"bye")
        client.end()

    with peer(serving(pki.server(), leave)) as server, running(*trusting(pki, server.address), "--hold") as client:
        assert client.out.read(3) == b"bye"
        server.result()
        assert client.finish() == Finished(0, b"", "")


def test_a_peer_that_was_only_to_speak(pki: Pki) -> None:
    """A server that closes after its answer without reading our close_notify is a success, as over TCP."""
    shaken = threading.Event()

    def speak(client: Secured) -> None:
        shaken.set()
        client.sock.recv(1, socket.MSG_PEEK)  # its close_notify is here, and stays unread
        client.send(b"a word")
        client.end()

    with peer(serving(pki.server(), speak)) as server, running(*trusting(pki, server.address)) as client:
        assert shaken.wait(PATIENCE)
        assert client.finish() == Finished(0, b"a word", "")


def test_no_shutdown_keeps_our_end(pki: Pki) -> None:
    """With --no-shutdown close_notify is sent only after the peer's."""
    started: queue.SimpleQueue[Running] = queue.SimpleQueue()

    def answer(client: Secured) -> Any:
        assert client.read_exactly(8) == b"question"
        before = client.ciphertext
        settle(started.get())
        assert is_silent(client.sock)
        client.send(b"answer")
        client.end()
        return client.read_all(), client.ciphertext - before

    with peer(serving(pki.server(), answer)) as server:
        options = ("--no-shutdown", "--send", "question")
        with running(*trusting(pki, server.address, options)) as process:
            started.put(process)
            assert process.finish() == Finished(0, b"answer", "")
        rest, ciphertext = server.result()
    assert rest == b""
    assert 0 < ciphertext < 100


# -- streams that are cut


def test_a_cut_gives_the_prefix_and_18(pki: Pki) -> None:
    """A TCP end without close_notify is exit code 18, and what was received before is written."""

    def cut(client: Secured) -> None:
        assert client.read_all() == b"question"
        client.send(DATA)

    with peer(serving(pki.server(), cut)) as server:
        done = netkit(*trusting(pki, server.address), input=b"question")
    check_same(done.out, DATA)
    assert done.code == 18
    reason = f"it ended without close_notify (after {len(DATA)} bytes)"
    assert done.err == f"netkit connect: cannot receive from tls:{server.address}: {reason}\n"


def test_a_cut_after_our_end_gets_a_hint(pki: Pki) -> None:
    """If the server leaves after our close_notify, a hint on a terminal suggests --no-shutdown."""
    with peer(serving(pki.server(), lambda client: client.read_all())) as server:
        code, said = on_terminal(*trusting(pki, server.address), "--send", "question", stdin=DEVNULL, stdout=DEVNULL)
    assert code == 18
    assert re.search(rb"^hint: .*--no-shutdown", said, re.MULTILINE), said


def test_a_record_that_is_cut_or_forged(pki: Pki) -> None:
    """An incomplete record is exit code 18, and a forged one 35; what was received before is written."""

    def half(client: Secured) -> None:
        client.send(b"whole")
        client.sock.sendall(b"\x17\x03\x03\x01\x00" + bytes(100))

    def forged(client: Secured) -> None:
        client.send(b"whole")
        client.sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        with contextlib.suppress(OSError):
            read_all(client.sock)

    for behaviour, code in ((half, 18), (forged, 35)):
        with peer(serving(pki.server(), behaviour)) as server:
            done = netkit(*trusting(pki, server.address, ("--no-shutdown",)))
        assert (done.code, done.out) == (code, b"whole"), done.err


def test_a_reset_is_56_with_what_had_come(pki: Pki) -> None:
    """A reset after all our data was acknowledged is exit code 56, and the message counts payload."""

    def break_off(client: Secured) -> None:
        assert client.read_exactly(8) == b"question"
        client.send(bytes(1000))
        reached.get(timeout=PATIENCE)
        reset(client.sock)

    reached: queue.SimpleQueue[None] = queue.SimpleQueue()
    with peer(serving(pki.server(), break_off)) as server, running(*trusting(pki, server.address)) as client:
        client.stdin.write(b"question")
        assert len(client.out.read(1000)) == 1000
        reached.put(None)
        server.result()
        done = client.finish()
    assert (done.code, done.out) == (56, b"")
    said = f"cannot receive from tls:{server.address}: connection reset by peer (after 1000 bytes)"
    assert done.err == f"netkit connect: {said}\n"


def test_a_reset_is_55_with_what_was_lost(pki: Pki) -> None:
    """After a reset that loses our data, the message counts payload that was not acknowledged, not ciphertext."""
    size = 16 << 20

    def break_off(client: Secured) -> None:
        client.read_exactly(1 << 20)
        jam(client.sock)
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)  # acknowledge now what was read
        reset(client.sock)

    with peer(serving(pki.server(), break_off)) as server:
        done = netkit(*trusting(pki, server.address), input=bytes(size), timeout=PATIENCE)
    assert done.code == 55
    missing, offered = lost(done)
    assert missing <= offered - (1 << 20)
    assert offered <= size


def test_a_cut_is_55_with_what_was_lost(pki: Pki) -> None:
    """An end without close_notify while our data is not acknowledged is exit code 55, with the count."""

    def cut(client: Secured) -> None:
        jam(client.sock)
        client.sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            outlast(client.sock)

    with peer(serving(pki.server(), cut)) as server:
        done = netkit(*trusting(pki, server.address), input=bytes(16 << 20), timeout=PATIENCE)
    assert (done.code, "it ended without close_notify" in done.err) == (55, True)
    missing, offered = lost(done)
    assert 0 < missing < offered


# -- failed handshakes


@pytest.mark.fault("payload before a handshake")
def test_data_before_a_handshake_is_never_payload(pki: Pki) -> None:
    """Plain text from the peer before the handshake is exit code 35, and none of it is written to stdout."""

    def speak(sock: socket.socket) -> bytes:
        sock.sendall(b"220 mail.example ready\r\n")
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)

    with peer(speak) as server:
        done = netkit(*trusting(pki, server.address), input=b"secret words")
        hello = server.result()
    assert (done.code, done.out) == (35, b"")
    assert done.err == f"netkit connect: cannot secure the connection to tls:{server.address}: " + (
        "the peer does not speak TLS\n"
    )
    assert isinstance(hello, OSError) or b"secret" not in hello


def test_one_shot_listen_fails_with_its_handshake(pki: Pki) -> None:
    """For listen with one client a failed handshake is exit code 35, and nothing is read or written."""
    with secured(pki, "listen") as server, socket.create_connection((HERE, server.port)) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        done = server.finish()
    assert (done.code, done.out) == (35, b"")
    assert re.search(rf"cannot secure the connection to {HERE}:\d+: the peer does not speak TLS$", the_failure(done))


@pytest.mark.fault("client that stalls in its handshake")
def test_no_client_changes_what_a_server_of_many_exits_with(pki: Pki) -> None:
    """Plain text, stalls, cuts and untrusted certificates delay no other client, and the server exits with 0."""
    with (
        secured(pki, "echo", "--max-clients", "6", "--cafile", pki.ca, "-v") as server,
        contextlib.ExitStack() as stack,
    ):
        port = server.port
        stalled, plain, cut = (stack.enter_context(socket.create_connection((HERE, port))) for _ in range(3))
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        cut.sendall(b"\x16\x03")
        cut.close()
        for _ in range(2):
            client = dialled(port, pki.client_context(pki.client))
            assert exchanged(client, DATA[:1000]) == DATA[:1000]
        stranger = dialled(port, pki.client_context(pki.stranger))
        with stranger.sock, pytest.raises((ssl.SSLError, OSError)):
            stranger.recv()
        stalled.close()
        done = server.finish()
    assert done.code == 0
    assert done.err.count("cannot secure the connection to ") == 3
    assert done.err.count("cannot trust ") == 1
    for reason in ("the peer does not speak TLS", "the peer ended in the middle of it", "certificate of a client"):
        assert reason in done.err


def test_listen_for_many_reads_its_input_after_a_handshake(pki: Pki) -> None:
    """With --keep a client that does not complete the handshake gets nothing of stdin."""
    with secured(pki, "listen", "--keep", "--label", "-q", "--print-port") as server:
        port = int(server.out.readline())
        with socket.create_connection((HERE, port)) as stalled:
            server.stdin.write(b"for whom it may concern")
            client = dialled(port, pki.client_context())
            with client.sock:
                assert client.read_exactly(23) == b"for whom it may concern"
                client.send(b"thanks\n")
                assert server.out.readline().endswith(b"\tthanks\n")
                stalled.setblocking(False)
                with pytest.raises(BlockingIOError):
                    stalled.recv(1)
                stalled.close()
            server.signal(signal.SIGTERM)
            assert died_by(server.wait()) is signal.SIGTERM


# -- clocks


@pytest.mark.fault("handshake without an answer")
def test_a_handshake_without_an_answer_is_28(pki: Pki) -> None:
    """A server that does not answer the ClientHello is exit code 28, and the one line says which time ran out."""
    with peer(read_all) as server:
        done = netkit(*trusting(pki, server.address), "--timeout", "200ms")
    assert (done.code, done.out) == (28, b"")
    assert re.fullmatch(r".*time ran out after 200 ms \(--timeout\)\n", done.err)


@pytest.mark.parametrize(("name", "option", "code"), [("echo", "--timeout", 28), ("listen", "", -signal.SIGTERM)])
def test_a_handshake_under_a_signal_and_the_clock_of_a_server(pki: Pki, name: str, option: str, code: int) -> None:
    """SIGTERM and --timeout end a server while a client stalls in its handshake."""
    options = (option, "2s") if option else ("-v",)
    with secured(pki, name, *options) as server, socket.create_connection((HERE, server.port)) as stalled:
        stalled.sendall(b"\x16\x03\x01")
        if not option:
            server.line("connection from ")
            server.signal(signal.SIGTERM)
        assert server.wait() == code
        with pytest.raises(ConnectionResetError):
            read_all(stalled)


def test_an_interrupted_handshake(pki: Pki) -> None:
    """Ctrl-C during a handshake ends connect at once, by the signal and without a message."""
    hello = threading.Event()

    def stall(sock: socket.socket) -> None:
        sock.recv(1)
        hello.set()
        with contextlib.suppress(OSError):
            read_all(sock)

    with peer(stall) as server, running(*trusting(pki, server.address)) as client:
        assert hello.wait(PATIENCE)
        client.signal(signal.SIGINT)
        assert died_by(client.wait()) is signal.SIGINT
        assert client.finish().err == ""


# -- certificates of servers


@pytest.mark.fault("bad certificate", "payload before verification")
def test_a_bad_certificate_is_60_and_nothing_is_sent(pki: Pki) -> None:
    """A certificate that is not trusted is exit code 60 with one line, and the server receives no payload."""
    with peer(serving(pki.server(pki.bad("expired")), lambda client: client.recv())) as server:
        target = f"tls:{server.address}"
        done = netkit("connect", target, "--cafile", pki.ca, input=b"secret")
        got = server.result()
    assert (done.code, done.out) == (60, b"")
    assert re.fullmatch(f"netkit connect: cannot trust {re.escape(target)}: [ -~]+\n", done.err)
    # The handshake failed, or after it came an alert or a reset.
    assert isinstance(got, (ssl.SSLError, Cut, OSError)), got


@pytest.mark.fault("--insecure")
@pytest.mark.parametrize(("kind", "talk"), [("self-signed", []), ("expired", ["-q"]), ("wrong name", ["--json"])])
def test_insecure_trusts_anybody_and_says_so(pki: Pki, kind: str, talk: list[str]) -> None:
    """--insecure accepts a bad certificate, and one line says that it was not verified, also with -q."""
    said = "the certificate of tls:{} is not verified (--insecure)"

    with peer(serving(pki.server(pki.bad(kind)), answered)) as server:
        done = netkit("connect", f"tls:{server.address}", "--insecure", *AT_ONCE, *talk, input=b"hello")
    assert (done.code, done.out) == (0, b"HELLO")
    if "--json" in talk:
        [event] = [e for e in map(json.loads, done.err.splitlines()) if e["event"] == "unverified"]
        assert event["target"] == f"tls:{server.address}"
    else:
        assert done.err == f"netkit connect: {said.format(server.address)}\n"


def answered(client: Secured) -> str | None:
    """Send the data back in upper case, and return the protocol that ALPN chose."""
    client.send(client.read_all().upper())
    client.end()
    return client.tls.selected_alpn_protocol()


def test_the_systems_authorities_are_trusted(pki: Pki, tmp_path: Path) -> None:
    """Without --cafile the system's store of certificates is used."""
    with peer(serving(pki.server(), answered)) as server:
        trusted = netkit(
            "connect", f"tls:{server.address}", *AT_ONCE, input=b"hi", env={**os.environ, "SSL_CERT_FILE": pki.ca}
        )
        distrusted = netkit("connect", f"tls:{server.address}", input=b"hi")
    assert trusted == Finished(0, b"HI", "")
    assert (distrusted.code, distrusted.out) == (60, b"")


@pytest.mark.fault("name of a TLS server")
def test_servername_is_what_is_asked_for_and_verified(pki: Pki) -> None:
    """--servername is sent as SNI and verified in place of the host; an address is verified but not sent."""
    asked: list[str | None] = []
    context = pki.server(pki.names)
    context.sni_callback = lambda sock, name, context: asked.append(name)
    rows = [("www.example.org.", 0), ("example.org", 60), ("192.0.2.7", 0)]
    with peer(serving(context, answered)) as server:
        for name, code in rows:
            done = netkit(*trusting(pki, server.address), "--servername", name, input=b"hi")
            assert done.code == code, (name, done.err)
    assert asked == ["www.example.org", "example.org", None]


def test_unix_sockets_over_tls(pki: Pki, tmp_path: Path) -> None:
    """TLS works over a unix socket, with --servername or --insecure."""
    path = tmp_path / "socket"
    with running("upper", f"tls:unix:{path}", *pki.good.options(), "--once") as server:
        server.line("listening on unix:")
        done = netkit(
            "connect", f"tls:unix:{path}", "--cafile", pki.ca, "--servername", "localhost", *AT_ONCE, input=DATA
        )
        check_same(done.out, DATA.upper())
        assert (done.code, done.err) == (0, "")
        assert server.wait() == 0
    with running("echo", f"unix:{path}", "--tls", *pki.good.options(), "--once") as server:
        server.line("listening on unix:")
        done = netkit("connect", f"unix:{path}", "--tls", "--insecure", "-q", *AT_ONCE, input=b"x")
        assert (done.code, done.out) == (0, b"x")


# -- certificates of clients


def test_a_certificate_that_is_missed_late(pki: Pki) -> None:
    """Under TLS 1.3 the server's alert comes after we began to send: it is reported (35), not the reset after it."""
    with peer(serving(pki.server(asks=True), answered)) as server:
        done = netkit(*trusting(pki, server.address), input=DATA)
        assert isinstance(server.result(), (ssl.SSLError, Cut))
    assert (done.code, done.out) == (35, b""), done.err
    assert done.err.endswith(": the peer sent alert certificate_required\n")


@pytest.mark.parametrize(
    ("whose", "code", "alert"), [(None, 35, "certificate_required"), ("stranger", 60, "unknown_ca"), ("client", 0, "")]
)
def test_listen_asks_for_certificates_of_clients(pki: Pki, whose: str | None, code: int, alert: str) -> None:
    """With --cafile listen requires a client certificate of that CA; other clients fail and deliver nothing."""

    with secured(pki, "listen", "--cafile", pki.ca, stdin=subprocess.DEVNULL) as server:
        client = netkit(
            *trusting(pki, f"{HERE}:{server.port}"),
            *(getattr(pki, whose).options() if whose else ()),
            input=b"words",
        )
        done = server.finish()
    if not code:
        assert (client, done.code, done.out) == (Finished(0, b"", ""), 0, b"words")
        return
    assert (client.code, client.out) == (35, b""), client.err
    assert client.err.endswith(f": the peer sent alert {alert}\n")
    assert (done.code, done.out) == (code, b""), done.err


# -- ALPN and versions


@pytest.mark.parametrize(("ours", "theirs", "agreed"), [("h2,http/1.1", ["http/1.1"], "http/1.1"), ("x", ["y"], None)])
def test_alpn_of_connect(pki: Pki, ours: str, theirs: list[str], agreed: str | None) -> None:
    """--alpn offers protocols in order, and the event has the one that was chosen."""
    context = pki.server()
    context.set_alpn_protocols(theirs)
    with peer(serving(context, answered)) as server:
        done = netkit(*trusting(pki, server.address), "--alpn", ours, "--json", input=b"hi")
        assert server.result() == agreed
    [event] = [e for e in map(json.loads, done.err.splitlines()) if e["event"] == "secured"]
    assert (event["protocol"], event.get("alpn"), event["names"][:2]) == ("TLSv1.3", agreed, ["localhost", HERE])


def test_alpn_of_listen(pki: Pki) -> None:
    """A server prefers the protocols in the order of its own --alpn."""
    with secured(pki, "echo", "--alpn", "b,a", "--once") as server:
        context = pki.client_context()
        context.set_alpn_protocols(["a", "b"])
        client = dialled(server.port, context)
        assert client.tls.selected_alpn_protocol() == "b"
        assert exchanged(client, b"x") == b"x"


@pytest.mark.fault("old TLS")
def test_suites_that_are_not_shared(pki: Pki) -> None:
    """If there is no common cipher, both sides fail, and the server's line (35) says so."""
    with secured(pki, "listen", stdin=subprocess.DEVNULL) as server:
        context = pki.client_context(maximum_version=V12)
        context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")  # the certificate's key is no RSA key
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            dialled(server.port, context)
        done = server.finish()
    assert done.code == 35
    assert the_failure(done).endswith(": no cipher in common")


# -- files


@pytest.mark.parametrize("name", ["connect", "echo"])
def test_files_that_cannot_be_used_are_26_before_anything_else(
    pki: Pki, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file of certificates or keys that cannot be used is exit code 26 before anything connects or binds."""
    garbage, empty, missing = (tmp_path / word for word in ("garbage", "empty", "missing"))
    garbage.write_bytes(b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    empty.touch()
    good = pki.good
    rows = [
        ("--cert", str(missing), "--key", good.key),
        ("--cert", good.cert, "--key", str(tmp_path)),
        ("--cert", str(garbage), "--key", good.key),
        ("--cert", good.cert, "--key", str(empty)),
        ("--cert", good.cert, "--key", pki.client.key),
        ("--cert", good.cert, "--key", pki.encrypted()),
        (*good.options(), "--cafile", str(missing)),
        (*good.options(), "--cafile", str(garbage)),
        (*good.options(), "--cafile", pki.client.key),
    ]
    with socket.create_server((HERE, 0)) as listener:
        address = f"tls:{HERE}:{listener.getsockname()[1]}"  # in use, so that binding it first would be 45
        for options in rows:
            assert run([name, address, *options]) == 26, options
            out, err = capfd.readouterr()
            assert out == ""
            assert re.fullmatch(f"netkit {name}: cannot [ -~]+\n", err)
            assert next(word for word in options if word not in good and not word.startswith("--")) in err
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_a_server_without_a_pair_is_a_mistake() -> None:
    """A TLS server without --cert and --key is a mistake; on a terminal a hint shows how to create them."""
    code, said = on_terminal("listen", "tls:0")
    assert code == 2
    assert said.startswith(
        b"netkit listen: a TLS server needs --cert and --key, or --self-signed NAME\r\nhint: openssl req "
    )


# -- what is kept, shown and run is payload


def test_records_and_limits_are_of_payload(pki: Pki, tmp_path: Path) -> None:
    """--log, --hexdump, --stats, --until and --max-bytes apply to payload, not to ciphertext."""
    log = tmp_path / "log"
    with secured(pki, "echo", "--greet", "hi {host}\\n", "--until", "stop") as server:
        address = f"{HERE}:{server.port}"
        target = trusting(pki, address)
        done = netkit(*target, "--log", str(log), "--stats", "--send", "ping\\n", "--until", "ping\\n")
        assert (done.code, done.out) == (0, b"hi 127.0.0.1\nping\n")
        stats = json.loads(done.err)
        assert (stats["bytes_sent"], stats["bytes_acknowledged"], stats["bytes_received"]) == (5, 5, 18)
        records = read_log(log)
        assert (heard(records, "sent"), heard(records, "received")) == (b"ping\n", done.out)
        assert netkit(*trusting(pki, address, ("--recv-only",)), "--max-bytes", "10") == Finished(0, b"hi 127.0.0", "")
        done = netkit(*target, "--hexdump", "--send", "stop")
        assert (done.code, done.out) == (0, b"hi 127.0.0.1\nstop")
        assert re.search(r"^0+: 73 74 6f 70 +stop$", done.err, re.MULTILINE), done.err
        assert server.wait() == 0


def test_programs_over_tls(pki: Pki) -> None:
    """Programs of --exec and --sh-exec send and receive payload, and can half-close."""
    with secured(pki, "listen", "--keep", "--exec", "tr a-z A-Z") as server:
        target = trusting(pki, f"{HERE}:{server.port}")
        check_same(netkit(*target, input=DATA).out, DATA.upper())
        done = netkit(*target, "--sh-exec", "echo over; exec >&-; cat >&2")
        assert (done.code, done.err) == (0, "OVER\n")


def test_the_same_reply_for_everybody(pki: Pki) -> None:
    """--reply over TLS is sent whole with close_notify, and the requests are on stdout."""
    with secured(pki, "listen", "--reply", "the answer", "--max-clients", "3") as server:
        port = server.port
        for _ in range(3):
            client = dialled(port, pki.client_context())
            assert exchanged(client, b"?") == b"the answer"
        assert server.finish()[:2] == (0, b"???")


@pytest.mark.fault("secrets in messages")
def test_no_secret_is_written(pki: Pki, tmp_path: Path) -> None:
    """netkit ignores SSLKEYLOGFILE, so that no session keys are written."""
    keys = tmp_path / "keys"
    env = {**os.environ, "SSLKEYLOGFILE": str(keys)}
    with secured(pki, "upper", "--once", env=env) as server:
        assert netkit(*trusting(pki, f"{HERE}:{server.port}"), input=b"x", env=env) == Finished(0, b"X", "")
        assert server.wait() == 0
    assert list(tmp_path.iterdir()) == []


def test_ssl_is_for_who_asks_for_it(pki: Pki) -> None:
    """The ssl module is imported when TLS is used, and not for a usage error."""
    with peer(serving(pki.server(), answered)) as server:
        code, _, modules = loaded(*trusting(pki, server.address), stdin=b"x")
    assert (code, modules & HEAVY) == (0, {"ssl"})
    code, _, modules = loaded("listen", "tls:0")
    assert (code, modules & HEAVY) == (2, set())


@pytest.mark.fault("little memory")
def test_memory_stays_flat(pki: Pki) -> None:
    """The memory of both sides stays flat while much data goes through echo and back."""
    size = amount(80_000_000, full=200_000_000)
    with secured(pki, "echo", "--once", real=True) as server:
        with (
            open("/dev/zero", "rb") as zero,
            running(argv=["head", "-c", str(size)], stdin=zero) as source,
            running(*trusting(pki, f"{HERE}:{server.port}"), stdin=source.out, real=True) as client,
        ):
            count = 0
            peak: list[int] = []
            while chunk := client.out.read(1 << 18):
                count += len(chunk)
                if count < size and count * 5 // size == len(peak):
                    peak.append(max(peak_memory(server.pid), peak_memory(client.pid)))
            assert count == size
            assert client.wait() == 0
        assert server.wait() == 0
    assert max(peak) < 64 << 20, peak
    assert peak[-1] - peak[1] < 4 << 20, peak
