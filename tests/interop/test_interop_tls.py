"""TLS with openssl, ncat, socat, nginx and curl, as clients and as servers."""

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import NETKIT, Finished, Running, free_port, running
from tests.support.certificates import Pki
from tests.support.data import DATA, OTHER, check_same
from tests.support.partners import NGINX, check_page, content, file_of, run, s_server
from tests.support.processes import feed, tool

HERE = "127.0.0.1"
VERSIONS = pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
TEXT = DATA.hex().encode()[:300_000]  # has no letters that are commands of s_client at the start of a line


def connecting(pki: Pki, port: int | str, end: tuple[str, ...] = ("--shutdown-after", "0")) -> list[str]:
    """Return the command line of a client that waits for the server; ``end`` says when it sends its end."""
    return [*NETKIT, "connect", f"tls:{HERE}:{port}", "--cafile", pki.ca, "--wait", "10s", *end]


def s_client(pki: Pki, port: int, *options: str) -> list[str]:
    """Return the command line of openssl's client, which refuses a certificate that it cannot verify."""
    trust = ("-CAfile", pki.ca, "-verify_return_error", "-verify_quiet")
    return [tool("openssl"), "s_client", "-connect", f"{HERE}:{port}", *trust, *options]


@contextlib.contextmanager
def serving(pki: Pki, name: str, *options: str, **popen: Any) -> Iterator[tuple[Running, int]]:
    """Run a server of netkit over TLS, and yield it and its port."""
    with running(name, f"tls:{HERE}:0", *pki.good.options(), *options, **popen) as server:
        yield server, server.port


# -- openssl


ANY = ("-cipher", "ALL:@SECLEVEL=0")  # without it OpenSSL refuses old versions


@pytest.mark.parametrize("version", ["1", "1_1", "1_2", "1_3"])
def test_openssl_of_each_version(pki: Pki, version: str) -> None:
    """300,000 bytes pass intact to s_server and to s_client, and all exit with 0; --tls-min allows TLS 1.0."""
    agreed = f"secured by TLSv{version.replace('_', '.')} with "
    theirs = (f"-tls{version}", *ANY)
    ours = ("-v", *(("--tls-min", "1.0") if version in ("1", "1_1") else ()))
    with file_of() as stdout, s_server(pki, *theirs, "-quiet", "-naccept", "1", stdout=stdout) as (server, port):
        done = run([*connecting(pki, port), *ours], DATA)
        assert (done.code, server.finish().code) == (0, 0)
        check_same(content(stdout), DATA)
    assert agreed in done.err
    with file_of(OTHER) as stdin, serving(pki, "listen", *ours, stdin=stdin) as (listener, port):
        got = run(s_client(pki, port, "-quiet", *theirs))
        check_same(got.out, OTHER)
        done = listener.finish()
    assert (got.code, done.code) == (0, 0)
    assert agreed in done.err


def test_openssl_sends(pki: Pki) -> None:
    """s_client sends 300,000 bytes to listen intact, and both exit with 0."""
    with (
        serving(pki, "listen") as (server, port),
        running(argv=s_client(pki, port, "-quiet", "-no_ign_eof")) as client,
    ):
        feed(client, TEXT)
        check_same(server.read_all(), TEXT)
        assert (client.finish().code, server.finish().code) == (0, 0)


def test_openssl_serves_a_page(pki: Pki, tmp_path: Path) -> None:
    """A page that s_server sends after our half-close arrives intact."""
    (tmp_path / "page").write_bytes(b"HTTP/1.1 200 OK\r\n\r\n" + OTHER)
    with s_server(pki, "-HTTP", cwd=tmp_path, stdin=subprocess.DEVNULL) as (_, port):
        ours = run(connecting(pki, port), b"GET /page HTTP/1.0\r\n\r\n")
        check_page(ours.out, OTHER)
        assert (ours.code, ours.err) == (0, "")


def test_openssl_renews_its_keys_in_the_middle(pki: Pki) -> None:
    """echo returns every byte over key updates of s_client, with (K) and without (k) a request for ours."""
    with (
        serving(pki, "echo", "--once") as (server, port),
        running(argv=s_client(pki, port, "-tls1_3", "-brief")) as client,
    ):
        client.line("DONE|CONNECTION ESTABLISHED")
        for command in (b"K\n", b"k\n", b"K\n"):
            block = TEXT[:50_000] + b"\n"
            feed_on(client, block)
            check_same(client.read(len(block)), block)
            client.stdin.write(command)
            client.line("KEYUPDATE")
        client.stdin.write(b"last\n")
        assert client.read(5) == b"last\n"
        assert client.finish().code == 0
        assert server.finish().code == 0


def feed_on(process: Running, data: bytes) -> None:
    """Write all of ``data``, and leave the input open."""
    rest = memoryview(data)
    while rest:
        rest = rest[process.stdin.write(rest) :]


def test_openssl_gets_no_ticket(pki: Pki) -> None:
    """A server of netkit sends no session ticket, so that no session is resumed."""
    with serving(pki, "echo", "--max-clients", "2") as (server, port):
        for version in ("-tls1_2", "-tls1_3"):
            theirs = run(s_client(pki, port, version, "-no_ign_eof", "-msg"))
            assert theirs.code == 0
            assert b"Finished" in theirs.out
            assert b"NewSessionTicket" not in theirs.out, version
        assert server.finish().code == 0


@pytest.mark.parametrize("whose", [None, "client"])
@VERSIONS
def test_openssl_wants_a_certificate(pki: Pki, version: str, whose: str | None, tmp_path: Path) -> None:
    """s_server accepts our certificate; without one connect shows its alert: 35."""
    (tmp_path / "page").write_bytes(b"HTTP/1.1 200 OK\r\n\r\n" + OTHER)
    options = ("-Verify", "1", "-verify_return_error", "-CAfile", pki.ca, "-HTTP", version)
    with s_server(pki, *options, cwd=tmp_path, stdin=subprocess.DEVNULL) as (_, port):
        mine = getattr(pki, whose).options() if whose else ()
        ours = run([*connecting(pki, port), *mine], b"GET /page HTTP/1.0\r\n\r\n")
    if whose == "client":
        check_page(ours.out, OTHER)
        assert (ours.code, ours.err) == (0, "")
        return
    alert = "handshake_failure" if version == "-tls1_2" else "certificate_required"
    assert (ours.code, ours.out) == (35, b"")
    assert ours.err.endswith(f": the peer sent alert {alert}\n")


@pytest.mark.fault("old TLS")
def test_old_versions_are_refused(pki: Pki) -> None:
    """A peer with TLS 1.1 at most is 35, as a server and as a client, with a message about the version."""
    version = "-tls1_1"
    with s_server(pki, version, *ANY, "-HTTP", stdin=subprocess.DEVNULL) as (_, port):
        ours = run(connecting(pki, port), b"secret")
    assert (ours.code, ours.out) == (35, b"")
    assert "TLS 1.2" in ours.err or "protocol_version" in ours.err
    with serving(pki, "listen", stdin=subprocess.DEVNULL) as (server, port):
        theirs = run(s_client(pki, port, version, *ANY))
        done = server.finish()
    assert theirs.code != 0
    assert b"protocol version" in theirs.err.encode()
    assert done.out == b""
    assert (done.code, done.err.splitlines()[-1].rpartition(": ")[2]) == (
        35,
        "the peer speaks no version from TLS 1.2 on",
    )


@pytest.mark.parametrize(
    ("options", "version"), [(("--tls-max", "1.2"), "TLSv1.2"), (("--tls-min", "1.3"), "TLSv1.3"), ((), "TLSv1.3")]
)
def test_the_range_of_versions(pki: Pki, options: tuple[str, ...], version: str) -> None:
    """The newest common version is used; without a common version it is 35, and the message has our range."""
    with s_server(pki, "-HTTP", stdin=subprocess.DEVNULL) as (_, port):
        ours = run([*connecting(pki, port), *options, "-v"])
        assert f"secured by {version} with " in ours.err
    other = "-tls1_3" if version == "TLSv1.2" else "-tls1_2"
    with serving(pki, "listen", *options, stdin=subprocess.DEVNULL) as (server, port):
        theirs = run(s_client(pki, port, other, "-no_ign_eof"))
        done = server.finish()
    if options:
        words = "from TLS 1.2 to 1.2" if version == "TLSv1.2" else "from TLS 1.3 on"
        assert theirs.code != 0
        assert (done.code, done.err.splitlines()[-1].rpartition(": ")[2]) == (35, f"the peer speaks no version {words}")
    else:
        assert (theirs.code, done.code) == (0, 0)


@pytest.mark.parametrize("verified", [True, False])
def test_openssl_reads_the_same_in_a_certificate(pki: Pki, verified: bool) -> None:
    """--json has the same fields of a certificate, verified or not, as openssl x509."""
    trust = ("--cafile", pki.ca) if verified else ("--insecure",)
    with s_server(pki, "-HTTP", stdin=subprocess.DEVNULL) as (_, port):
        argv = [*NETKIT, "connect", f"tls:{HERE}:{port}", "--wait", "10s", "--json", *trust]
        told = run([*argv, "--shutdown-after", "0"]).err.splitlines()
        [event] = [each for each in map(json.loads, told) if each["event"] == "secured"]
        shown = run([*argv, "--show-certs"])
    about = "-subject -issuer -serial -startdate -enddate -fingerprint -sha256 -ext subjectAltName"
    form = "-nameopt RFC2253,-esc_msb,utf8 -dateopt iso_8601"
    for data in (Path(pki.good.cert).read_bytes(), shown.out):
        theirs = run([tool("openssl"), "x509", "-noout", *about.split(), *form.split()], data).out.decode()
        found = dict(line.split("=", 1) for line in theirs.splitlines() if "=" in line)
        assert event["subject"] == found["subject"]
        assert event["issuer"] == found["issuer"]
        assert event["serial"] == found["serial"]
        assert event["not_before"] == found["notBefore"].replace(" ", "T")
        assert event["not_after"] == found["notAfter"].replace(" ", "T")
        digits = found["sha256 Fingerprint"].replace(":", "").lower()
        assert event["fingerprint"] == f"sha256:{digits}"
        names = re.findall(r"(?:DNS|IP Address):([^,\n]+)", theirs)
        assert event["names"] == [name.replace("0:0:0:0:0:0:0:1", "::1") for name in names]


@VERSIONS
def test_who_has_no_certificate_hears_why(pki: Pki, version: str) -> None:
    """A client without the required certificate gets an alert, not a reset, and -v of the server reports it once."""
    alert = "certificate required" if version == "-tls1_3" else "handshake failure"
    with serving(pki, "echo", "--cafile", pki.ca, "--once", "-v") as (server, port):
        with running(argv=s_client(pki, port, "-quiet", version)) as client:
            assert client.wait() != 0
            said = client.finish().err
        done = server.finish()
    assert f"alert {alert}" in said
    assert done.err.count("peer did not return a certificate") == 1


# -- ncat, which ends a stream without close_notify


def test_ncat_serves(pki: Pki) -> None:
    """ncat as the server receives every byte, and sends every byte; its missing close_notify is 18."""
    argv = [tool("ncat"), "-lnv", "--ssl", "--ssl-cert", pki.good.cert, "--ssl-key", pki.good.key, HERE]
    port = free_port()
    with file_of() as stdout, running(argv=[*argv, str(port)], stdout=stdout) as server:
        server.line("(?i)listening on .*")
        assert run(connecting(pki, port), DATA) == (0, b"", "")
        assert server.finish().code == 0
        check_same(content(stdout), DATA)
    with file_of(OTHER) as stdin, running(argv=[*argv, str(port)], stdin=stdin) as server:
        server.line("(?i)listening on .*")
        ours = run(connecting(pki, port, ("--no-shutdown",)))
        check_same(ours.out, OTHER)
        assert ours.code == 18
        assert "it ended without close_notify (after 300000 bytes)" in ours.err


def test_ncat_dials(pki: Pki) -> None:
    """ncat as the client verifies us, and sends and receives every byte; its missing close_notify is 18."""

    def dialling(port: int) -> list[str]:
        return [tool("ncat"), "--ssl-verify", "--ssl-trustfile", pki.ca, "localhost", str(port)]

    with serving(pki, "listen") as (server, port), running(argv=dialling(port)) as client:
        feed(client, DATA)
        check_same(server.read_all(), DATA)
        done = server.finish()
        assert done.code == 18
        assert "it ended without close_notify (after 300000 bytes)" in done.err
    with (
        file_of(OTHER) as stdin,
        serving(pki, "listen", stdin=stdin) as (server, port),
        running(argv=dialling(port)) as client,
    ):
        check_same(client.read(len(OTHER)), OTHER)
        assert client.finish() == (0, b"", "")
        assert server.finish().code == 18


# -- socat


@pytest.mark.parametrize(
    ("sent", "answer", "what"),
    [(DATA, b"", "STDIO"), (DATA, OTHER, "STDIO"), (DATA, b"", "EXEC:cat")],
    ids=["to it", "both ways", "echo"],
)
def test_socat_serves(pki: Pki, sent: bytes, answer: bytes, what: str) -> None:
    """socat as the server sends and receives 300,000 bytes with half-close, from stdio and from a program."""

    listening = f"OPENSSL-LISTEN:0,bind={HERE},cert={pki.good.both},verify=0"
    argv = [tool("socat"), "-dd", "-t", "10", listening, what]
    with file_of(answer) as stdin, file_of() as stdout, running(argv=argv, stdin=stdin, stdout=stdout) as server:
        port = server.line(r"(?i)listening on .*\b(\d+)$")[1]
        ours = run(connecting(pki, port), sent)
        assert server.finish().code == 0
        check_same(content(stdout), b"" if what == "EXEC:cat" else sent)
    check_same(ours.out, sent if what == "EXEC:cat" else answer)
    assert (ours.code, ours.err) == (0, "")


def test_socat_dials(pki: Pki) -> None:
    """socat as the client verifies us, and exchanges every byte with echo and with listen; both exit with 0."""

    def dialling(port: int) -> list[str]:
        return [tool("socat"), "-t", "10", "-", f"OPENSSL:localhost:{port},cafile={pki.ca}"]

    with serving(pki, "echo", "--once") as (server, port):
        theirs = run(dialling(port), DATA)
        check_same(theirs.out, DATA)
        assert (theirs.code, theirs.err, server.finish().code) == (0, "", 0)
    with (
        file_of(OTHER) as stdin,
        file_of(DATA) as given,
        serving(pki, "listen", stdin=stdin) as (server, port),
        running(argv=dialling(port), stdin=given) as client,
    ):
        check_same(server.read_all(), DATA)
        check_same(client.read_all(), OTHER)
        assert (client.wait(), server.wait()) == (0, 0)


# -- nginx and curl

NGINX_TLS = (
    NGINX
    + """
    server {{
        listen {here}:{port} ssl;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        location / {{ root {root}; }}
    }}
}}
"""
)


@contextlib.contextmanager
def nginx(folder: Path, cert: str, key: str) -> Iterator[int]:
    """Serve a folder with nginx over TLS, and yield the port before it listens, for ``connect --wait``."""
    port = free_port()
    conf = folder / "nginx.conf"
    conf.write_text(NGINX_TLS.format(here=HERE, port=port, cert=cert, key=key, root=folder))
    with running(argv=[tool("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(conf)]) as server:
        yield port
        assert server.terminate().code == 0


def test_nginx_serves_https(pki: Pki, tmp_path: Path) -> None:
    """A page of nginx is intact; if nginx cuts it because we end at once, connect does not exit with 0."""
    (tmp_path / "page").write_bytes(OTHER)
    request = b"GET /page HTTP/1.0\r\n\r\n"
    with nginx(tmp_path, pki.good.cert, pki.good.key) as port:
        for options in ((), ("--no-shutdown",)):
            whole = run(connecting(pki, port, options), request)
            check_page(whole.out, OTHER)
            assert (whole.code, whole.err) == (0, "")
        ours = run(connecting(pki, port), request)
    if ours.code:
        assert ours.code in (18, 56)
        assert re.search(rf" \(after {len(ours.out)} bytes\)$", ours.err.strip())
    else:
        check_page(ours.out, OTHER)


@pytest.mark.parametrize("complete", [True, False])
def test_nginx_and_its_chain(pki: Pki, tmp_path: Path, complete: bool) -> None:
    """--show-certs prints the chain that nginx sends; without the intermediate certificate it is 60."""
    pair = pki.below("nginx")
    chain = re.findall(rb"-----BEGIN.*?-----END CERTIFICATE-----\n", Path(pair.cert).read_bytes(), re.DOTALL)
    sent = chain if complete else chain[:1]
    (tmp_path / "cert").write_bytes(b"".join(sent))
    with nginx(tmp_path, f"{tmp_path}/cert", pair.key) as port:
        ours = run([*connecting(pki, port, ()), "--show-certs"])
    assert re.findall(rb"-----BEGIN.*?-----END CERTIFICATE-----\n", ours.out, re.DOTALL) == sent
    if complete:
        assert (ours.code, ours.err) == (0, "")
    else:
        assert ours.code == 60
        assert "the server does not send its intermediate certificate OU=Testing CA " in ours.err


def test_curl_takes_a_certificate_made_on_the_spot(tmp_path: Path) -> None:
    """curl trusts a --self-signed certificate that was saved with --show-certs."""
    with running(
        "listen", f"tls:{HERE}:0", "--self-signed", "localhost", "--reply", "HTTP/1.0 200 OK\\n\\nhi"
    ) as server:
        wanted = server.line("--fingerprint (.*)$")[1]
        port = server.port
        shown = run([*NETKIT, "connect", f"tls:{HERE}:{port}", "--fingerprint", wanted, "--show-certs"])
        (tmp_path / "ca").write_bytes(shown.out)
        theirs = run([tool("curl"), "-sS", "--cacert", str(tmp_path / "ca"), f"https://localhost:{port}/"])
        assert (theirs.code, theirs.out, theirs.err) == (0, b"hi", "")
        assert run([tool("curl"), "-sS", f"https://localhost:{port}/"]).code == 60


def test_curl_gets_a_page_of_listen(pki: Pki, tmp_path: Path) -> None:
    """curl gets the whole reply of listen over TLS, and listen prints each request; a foreign CA is 60 for curl."""
    page = tmp_path / "page"
    page.write_bytes(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(OTHER), OTHER))
    with serving(pki, "listen", "--reply-file", str(page), "--max-clients", "4") as (server, port):

        def check(ca: str, *options: str) -> Finished:
            return run([tool("curl"), "-sS", "--cacert", ca, *options, f"https://localhost:{port}/x"])

        for options in ((), ("--tls-max", "1.2"), ("-d", "@" + str(page))):
            theirs = check(pki.ca, *options)
            check_same(theirs.out, OTHER)
            assert (theirs.code, theirs.err) == (0, "")
        assert check(pki.other_ca).code == 60
        done = server.finish()
    assert done.code == 0
    assert len(re.findall(rb"(?:GET|POST) /x HTTP/1.1\r\n", done.out)) == 3
