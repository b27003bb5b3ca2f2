"""Certificates: --fingerprint, --show-certs, --self-signed, keys with a password, and reasons for a refusal."""

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netkit.cli.app import run
from netkit.core.x509 import Certificate, read
from tests.support import PATIENCE, Finished, died_by, netkit, peer, running
from tests.support.certificates import BAD, PASSPHRASE, Pair, Pki
from tests.support.secured import Cut, Secured, serving
from tests.support.terminals import on_terminal

HERE = "127.0.0.1"
OTHER = "sha256:" + "0" * 64
AT_ONCE = ("--shutdown-after", "0")


def certificates_in(text: str) -> list[Certificate]:
    """Return the certificates of a text in PEM, which may have other lines."""
    found = re.findall("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", text, re.DOTALL)
    return [read(ssl.PEM_cert_to_DER_cert(each)) for each in found]


def fingerprint_of(pair: Pair) -> str:
    """Return the fingerprint of a pair's certificate."""
    return certificates_in(Path(pair.cert).read_text())[0].fingerprint


def answered(client: Secured) -> bytes:
    """Send the data back in upper case, and return it."""
    data = client.read_all()
    client.send(data.upper())
    client.end()
    return data


# -- fingerprints


def printed(fingerprint: str) -> str:
    """Return a fingerprint as openssl prints it."""
    return "SHA256:" + bytes.fromhex(fingerprint.removeprefix("sha256:")).hex(":").upper()


@pytest.mark.parametrize("kind", BAD)
def test_a_fingerprint_takes_exactly_this_certificate(pki: Pki, kind: str) -> None:
    """--fingerprint accepts exactly this certificate without verifying it; one of several is enough."""
    pair = pki.bad(kind)
    wanted = ("--fingerprint", OTHER, "--fingerprint", printed(fingerprint_of(pair)))
    with peer(serving(pki.server(pair), answered)) as server:
        done = netkit("connect", f"tls:{server.address}", *wanted, *AT_ONCE, input=b"hello")
    assert done == Finished(0, b"HELLO", "")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_another_certificate_is_60_and_gets_nothing(pki: Pki, version: ssl.TLSVersion) -> None:
    """Another certificate is exit code 60 with its fingerprint; neither payload nor our certificate is sent."""
    context = pki.server(asks=True, minimum_version=version, maximum_version=version)
    shown: list[Any] = []

    def wait(client: Secured) -> Any:
        shown.append(client.tls.getpeercert())
        return client.recv()

    with peer(serving(context, wait)) as server:
        target = f"tls:{server.address}"
        done = netkit("connect", target, "--fingerprint", OTHER, *pki.client.options(), input=b"secret")
        assert isinstance(server.result(), (Cut, OSError))
    assert (done.code, done.out, shown) == (60, b"", [])
    seen = fingerprint_of(pki.good)
    assert done.err == (
        f"netkit connect: cannot trust {target}: its certificate has {seen} (--fingerprint wants another)\n"
    )


def test_a_fingerprint_needs_no_name(pki: Pki, tmp_path: Path) -> None:
    """Over a unix socket --fingerprint needs no --servername."""
    with running("upper", f"tls:unix:{tmp_path}/socket", *pki.good.options(), "--once") as server:
        server.line("listening on unix:")
        target = f"tls:unix:{tmp_path}/socket"
        done = netkit("connect", target, "--fingerprint", fingerprint_of(pki.good), *AT_ONCE, input=b"x")
    assert done == Finished(0, b"X", "")


def test_fingerprints_for_fetch_portcheck_and_relay(pki: Pki) -> None:
    """--fingerprint works for fetch, portcheck and relay too."""
    pair = pki.bad("expired")
    right, page = fingerprint_of(pair), b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage"

    def serve(client: Secured) -> None:
        client.recv()
        client.send(page)
        client.end()

    with peer(serving(pki.server(pair), serve)) as server:
        for wanted, code in ((right, 0), (OTHER, 60)):
            assert netkit("fetch", f"https://{server.address}/", "--fingerprint", wanted).code == code
            found = netkit("portcheck", f"tls:{server.address}", "--fingerprint", wanted)
            assert found.code == code
            assert b", ended 2020-01-02 (" in found.out
        options = ("--fingerprint", right, "--once")
        with running("relay", f"{HERE}:0", f"tls:{server.address}", *options) as relay:
            assert netkit("connect", f"{HERE}:{relay.port}", "--send", "x", "--no-shutdown").out == page


@pytest.mark.parametrize("text", ["", "0" * 64, "sha256:", "sha256:0g", "sha1:" + "0" * 40, OTHER + "0", OTHER[:-1]])
def test_what_is_no_fingerprint(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Other digests and wrong lengths are usage errors."""
    assert run(["connect", "tls:127.0.0.1:1", "--fingerprint", text]) == 2
    assert "is not sha256: and 64 hex digits" in capfd.readouterr().err


# -- --show-certs


@pytest.mark.parametrize(
    ("made", "code"),
    [(lambda pki: pki.good, 0), (lambda pki: pki.below("chain"), 0), (lambda pki: pki.bad("expired"), 60)],
    ids=["good", "chain", "expired"],
)
def test_the_chain_is_shown_whatever_it_is(pki: Pki, made: Callable[[Pki], Pair], code: int) -> None:
    """The chain is printed as PEM, the server's own certificate first; the exit code tells whether it is trusted."""
    pair = made(pki)
    with peer(serving(pki.server(pair), Secured.read_all)) as server:
        done = netkit("connect", f"tls:{server.address}", "--cafile", pki.ca, "--show-certs", input=b"secret")
        assert isinstance(server.result(), ssl.SSLError) if code else server.result() == b""
    assert certificates_in(done.out.decode()) == certificates_in(Path(pair.cert).read_text())
    assert (done.code, done.err.count("\n")) == (code, int(code > 0))
    assert done.out.startswith(b" 0 s:")


def test_showing_a_chain_reads_no_input(pki: Pki) -> None:
    """--show-certs does not wait for stdin."""
    with (
        peer(serving(pki.server(), Secured.read_all)) as server,
        running("connect", f"tls:{server.address}", "--cafile", pki.ca, "--show-certs") as client,
    ):
        assert client.wait() == 0


def test_the_chains_of_ports(pki: Pki) -> None:
    """portcheck prints the chain after each port, and in JSON, also for refused certificates."""
    pairs = pki.good, pki.bad("expired")
    with (
        peer(serving(pki.server(pairs[0]), Secured.read_all)) as good,
        peer(serving(pki.server(pairs[1]), Secured.read_all)) as bad,
    ):
        ports = (f"tls:localhost:{good.port},{bad.port}", f"localhost:{good.port}", "-4", "--all-open")
        text, lines = (
            netkit("portcheck", *ports, "--cafile", pki.ca, "--show-certs", *options) for options in ((), ("--json",))
        )
    wanted = set(map(fingerprint_of, pairs))
    assert {each.fingerprint for each in certificates_in(text.out.decode())} == wanted
    told = [json.loads(line) for line in lines.out.splitlines()]
    secured = [each["tls"] for each in told if "tls" in each]
    assert (len(told), {each["fingerprint"] for each in secured}) == (3, wanted)
    for each in secured:
        [certificate] = certificates_in("".join(each["chain"]))
        assert certificate.fingerprint == each["fingerprint"]
    assert (text.code, lines.code) == (60, 60)


def test_the_reader_of_a_chain_that_leaves(pki: Pki) -> None:
    """If the reader of stdout leaves, --show-certs dies silently by SIGPIPE."""
    gone = threading.Event()

    def shake(sock: socket.socket) -> None:
        assert gone.wait(PATIENCE)
        with contextlib.suppress(OSError, Cut):
            Secured(sock, pki.server()).do_handshake().read_all()

    with peer(shake) as server:
        options = ("connect", f"tls:{server.address}", "--cafile", pki.ca, "--show-certs")
        with running(*options) as client:
            client.out.close()
            gone.set()
            assert died_by(client.wait()) is signal.SIGPIPE


def test_certificates_that_nobody_verified_are_told(pki: Pki) -> None:
    """With --insecure -v and --json still describe the certificate, with foreign text escaped."""
    pair = pki.built("escape", "a\x1b[2J\nb", b"\x30\x07\x82\x05a\x1b[2J")
    with peer(serving(pki.server(pair), answered)) as server:
        options = ("connect", f"tls:{server.address}", "--insecure", *AT_ONCE)
        said = netkit(*options, "-v", input=b"x").err
        told = netkit(*options, "--json", input=b"x").err
    assert f"certificate of a\\x1b[2J, by {pki.name}, ends " in said
    assert fingerprint_of(pair) in said
    assert said.replace("\n", "").isprintable()
    [event] = [each for each in map(json.loads, told.splitlines()) if each["event"] == "secured"]
    assert (event["subject"], event["names"]) == ("CN=a\\1B[2J\\0Ab", ["a\x1b[2J"])
    assert event["issuer"] == pki.name
    assert event["fingerprint"] == fingerprint_of(pair)
    assert event["days_left"] == 0


def test_a_client_is_told_by_its_certificate(pki: Pki) -> None:
    """A server describes the client certificate with -v, and says why it refuses one."""
    with running("echo", f"tls:{HERE}:0", *pki.good.options(), "--cafile", pki.ca, "-v") as server:
        target = ("connect", f"tls:{HERE}:{server.port}", "--cafile", pki.ca, *AT_ONCE)
        for pair, code in ((pki.client, 0), (pki.stranger, 35)):
            assert netkit(*target, *pair.options(), input=b"x").code == code
        server.line(f"secured by TLSv1.3 with .*, certificate of a client, by {re.escape(pki.name)}, ends .*sha256:")
        server.line(f"not acceptable: certificate of a stranger, by {re.escape(pki.other)}, .*sha256:")
        reason = f"the client does not send its intermediate certificate {pki.other}, or that is a root which {pki.ca}"
        server.line(f"cannot trust .*: {re.escape(reason)} lacks$")


# -- reasons for a refusal

KINDS = {
    "expired": ("certificate has expired", r"2020-01-02, \d+ days ago", ""),
    "wrong name": (
        "hostname mismatch, certificate is not valid for 'localhost'",
        "it is for other.example",
        "--servername NAME says another name that it may have",
    ),
    "self-signed": ("self-signed certificate", "", "if it is the right one: --fingerprint sha256:"),
    "unknown root": ("issuer {pki.other} is not trusted", "it is not in {pki.ca}", "--cafile FILE trusts"),
    "incomplete": (
        "the server does not send its intermediate certificate an issuer",
        "",
        "the server should send all certificates but the root",
    ),
}


def of_kind(pki: Pki, kind: str) -> Pair:
    """Return a pair whose certificate is refused for this reason."""
    if kind == "unknown root":
        return pki.below(kind, known=False)
    return pki.incomplete() if kind == "incomplete" else pki.bad(kind)


@pytest.mark.parametrize(
    ("command", "kind"), [*(("connect", kind) for kind in KINDS), ("fetch", "expired"), ("portcheck", "self-signed")]
)
def test_verdicts(pki: Pki, command: str, kind: str) -> None:
    """Each reason has its message, the same for all clients, and on a terminal a hint."""
    reason, detail, hint = (text.format(pki=pki) for text in KINDS[kind])
    with peer(serving(pki.server(of_kind(pki, kind)), answered)) as server:
        at = f"localhost:{server.port}"
        target = f"https://{at}/" if command == "fetch" else f"tls:{at}"
        code, said = on_terminal(command, "-4", target, "--cafile", pki.ca)
    lines = said.decode().replace("\r", "").splitlines()
    [failure] = [line for line in lines if line.startswith("netkit ")]
    named = at if command == "fetch" else target
    assert code == 60
    assert failure.startswith(f"netkit {command}: cannot trust {named}: {reason}")
    if command == "portcheck":
        assert re.fullmatch(r"( \(127\.0\.0\.1, after .*\))", failure.partition(reason)[2])
    else:
        assert re.fullmatch(
            rf"( \({detail if kind == 'expired' else re.escape(detail)}\))?", failure.partition(reason)[2]
        )
    assert any(line.startswith(f"hint: {hint}") for line in lines) is bool(hint)


def test_the_line_of_an_expired_certificate(pki: Pki) -> None:
    """The port is open, and its line and JSON have the reason, the certificate's name and when it expired."""
    with peer(serving(pki.server(pki.bad("expired")), answered)) as server:
        options = ("portcheck", f"tls:localhost:{server.port}", "-4", "--cafile", pki.ca)
        text, line = netkit(*options), netkit(*options, "--json").out
        coloured = netkit(*options, "--color", "always").out
    assert b"\t\x1b[33mopen\x1b[m\t" in coloured  # yellow: open, but not as wanted
    row = text.out.decode().rstrip("\n").split("\t")
    assert (row[0], row[1], row[3]) == ("localhost", f"{server.port}/tcp", "open")
    wanted = f"certificate has expired, localhost, {HERE}, by {pki.name}, ended 2020-01-02 ("
    assert row[5].startswith(wanted)
    told = json.loads(line)
    assert (told["state"], told["exit_code"], told["reason"]) == ("open", 60, "certificate has expired")
    assert (told["tls"]["not_after"], told["tls"]["issuer"]) == ("2020-01-02T00:00:00Z", pki.name)
    assert told["tls"]["days_left"] < -2000


# -- encrypted keys


@pytest.mark.parametrize("name", ["connect", "echo"])
def test_encrypted_keys(pki: Pki, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A missing, wrong or empty password for a key is exit code 26, and the message does not contain it."""
    key = pki.encrypted()
    wrong, empty, long, missing = (tmp_path / name for name in ("wrong", "empty", "long", "missing"))
    wrong.write_text("not the word\n")
    empty.write_text("\nsecret\n")
    long.write_text("x" * 1025)
    action = f"cannot use certificate {pki.good.cert} with key {key}"
    rows = [
        ((), f"{action}: the key is encrypted (--key-password-file FILE has its password)"),
        (("--key-password-file", str(wrong)), f"{action}: the password in {wrong} is not that of the key"),
        *(
            (
                ("--key-password-file", str(file)),
                f"cannot read the password of the key from {file}: its first line is not 1 to 1024 bytes long",
            )
            for file in (empty, long)
        ),
        (
            ("--key-password-file", str(missing)),
            f"cannot read the password of the key from {missing}: no such file or directory",
        ),
    ]
    for options, message in rows:
        assert run([name, f"tls:{HERE}:1", "--cert", pki.good.cert, "--key", key, *options]) == 26
        assert capfd.readouterr() == ("", f"netkit {name}: {message}\n")


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\nmore\n"])
def test_a_password_opens_the_key(pki: Pki, tmp_path: Path, end: bytes) -> None:
    """The password is the first line of its file, for servers and for clients."""
    (tmp_path / "password").write_bytes(PASSPHRASE + end)
    ours = ("--cert", pki.good.cert, "--key", pki.encrypted(), "--key-password-file", str(tmp_path / "password"))
    with running("upper", f"tls:{HERE}:0", *ours, "--cafile", pki.ca, "--once") as server:
        done = netkit("connect", f"tls:{HERE}:{server.port}", "--cafile", pki.ca, *ours, *AT_ONCE, input=b"x")
    assert done == Finished(0, b"X", "")


def test_the_key_of_another_certificate(pki: Pki, capfd: pytest.CaptureFixture[str]) -> None:
    """A key of another certificate has a message of its own."""
    assert run(["echo", "tls:0", "--cert", pki.good.cert, "--key", pki.client.key]) == 26
    assert capfd.readouterr().err.endswith(": the key is that of another certificate\n")


# -- --self-signed


@pytest.mark.parametrize("name", ["listen", "echo", "upper", "relay"])
def test_a_server_makes_its_certificate(name: str) -> None:
    """The server prints the fingerprint before it is ready, and clients accept the certificate by it."""
    with running("upper", f"{HERE}:0") as plain:
        target = [f"{HERE}:{plain.port}"] if name == "relay" else []
        with running(name, f"tls:{HERE}:0", *target, "--self-signed", "localhost", "--once") as server:
            said = server.line("self-signed certificate of localhost; clients can take it by --fingerprint (.*)$")
            wanted = ("--fingerprint", said[1])
            server.stdin.close()
            done = netkit("connect", f"tls:{HERE}:{server.port}", *wanted, *AT_ONCE, input=b"hello")
            assert server.finish()[:2] == (0, b"hello" if name == "listen" else b"")
    assert done == Finished(0, {"listen": b"", "echo": b"hello"}.get(name, b"HELLO"), "")


@pytest.mark.parametrize("name", ["localhost", HERE, "::1", "xn--bcher-kva.example", "a." * 100 + "example"])
def test_a_certificate_that_was_made_is_for_its_name(name: str, tmp_path: Path) -> None:
    """The certificate has the given name, addresses as IP addresses, and verifies; the event describes it."""
    file = tmp_path / "cert"
    with running("upper", f"tls:{HERE}:0", "--self-signed", name, "--json", "--max-clients", "2") as server:
        event = json.loads(server.line('"self_signed"').string)
        port = json.loads(server.line('"listening"').string)["local_port"]
        shown = netkit("connect", f"tls:{HERE}:{port}", "--fingerprint", event["fingerprint"], "--show-certs")
        file.write_bytes(shown.out)
        trusting = ("--cafile", str(file), "--servername", name, *AT_ONCE)
        assert netkit("connect", f"tls:{HERE}:{port}", *trusting, input=b"x") == Finished(0, b"X", "")
    assert (event["names"], event["days_left"]) == ([name], 364)
    assert event["subject"] == event["issuer"]


def test_each_server_has_a_certificate_of_its_own(pki: Pki) -> None:
    """Each server creates its own certificate, and no descriptor of the key stays open."""
    made = ("echo", f"tls:{HERE}:0", "--self-signed", "localhost")
    given = ("echo", f"tls:{HERE}:0", *pki.good.options())
    with running(*made) as one, running(*made) as other, running(*given) as third:
        first, second = (server.line("--fingerprint (.*)$")[1] for server in (one, other))
        assert one.port and third.port
        assert len(os.listdir(f"/proc/{one.pid}/fd")) == len(os.listdir(f"/proc/{third.pid}/fd"))
    assert first != second


def test_without_the_library_there_is_no_certificate(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without the cryptography package --self-signed fails with one line, and nothing listens."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert run(["echo", "tls:0", "--self-signed", "localhost"]) == 2
    said = capfd.readouterr()
    assert said == ("", "netkit echo: --self-signed needs the Python package cryptography, which is not installed\n")
