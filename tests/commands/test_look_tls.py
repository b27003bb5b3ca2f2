"""resolve and portcheck over TLS: good and bad certificates, and DNS over TLS and HTTPS."""

import json
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import Finished, free_port, netkit, peer, read_all, running
from tests.support.certificates import Pair, Pki
from tests.support.partners import dnsmasq
from tests.support.peers import send
from tests.support.processes import tool
from tests.support.secured import Secured, serving

GREETING = b"220 mail.test ESMTP\r\n"
MESSAGE = "application/dns-message"
OPT = bytes.fromhex("00 0029 04d0 00000000 0000")


@pytest.fixture(scope="module")
def dns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """Run dnsmasq; yield its port and its log of queries."""
    log = tmp_path_factory.mktemp("dns") / "log"
    names = ("--local=/test/", "--host-record=both.test,192.0.2.1,2001:db8::1", "--cname=www.test,both.test")
    long = f"--txt-record=long.test,{'x' * 250},{'y' * 250},{'z' * 250},{'w' * 250},{'v' * 250}"
    with dnsmasq(*names, long, "--log-queries", f"--log-facility={log}") as port:
        yield port, log


@contextmanager
def front(pair: str, port: int) -> Iterator[int]:
    """Put TLS in front of a port; yield the new port."""
    with running("relay", "tls:127.0.0.1:0", f"127.0.0.1:{port}", "--cert", pair, "--key", pair) as server:
        yield server.port


# -- DNS over TLS


def test_a_server_is_asked_over_tls(dns: tuple[int, Path], pki: Pki) -> None:
    """Addresses, aliases and long answers arrive over TLS, and JSON has the protocol."""
    with front(pki.good.both, dns[0]) as port:
        server = ["--server", f"tls:localhost:{port}", "--cafile", pki.ca]
        assert netkit("resolve", "both.test", *server) == (0, b"192.0.2.1\n2001:db8::1\n", "")
        found = netkit("resolve", "long.test", "www.test", "--type", "txt", *server)
        assert found.code == 6
        assert found.out.startswith(b'long.test\t"xxx')
        assert f"cannot resolve www.test: no TXT record (localhost:{port}, both.test" in found.err
        told = json.loads(netkit("resolve", "www.test", "-4", "--json", *server).out)
        assert (told["protocol"], told["server"], told["canonical"]) == ("tls", f"localhost:{port}", "both.test")
        by_address = ["--server", f"127.0.0.1:{port}", "--tls", "--cafile", pki.ca, "-4", "-v"]
        found = netkit("resolve", "both.test", *by_address)
        assert (found.code, found.out) == (0, b"192.0.2.1\n")
        assert "certificate of localhost, 127.0.0.1" in found.err
        assert f"127.0.0.1:{port} answered for both.test A over tls in " in found.err


@pytest.mark.parametrize(
    ("pair", "args", "reason"),
    [
        ("expired", [], "certificate has expired"),
        ("good", ["--servername", "other.example"], "not valid for 'other.example'"),
    ],
)
def test_a_server_that_is_not_trusted_is_asked_nothing(
    dns: tuple[int, Path], pki: Pki, pair: str, args: list[str], reason: str
) -> None:
    """A server whose certificate is not trusted is exit code 60, and gets no query."""
    with front(pair_of(pki, pair).both, dns[0]) as port:
        name = f"{pair}.test"
        server = ["--server", f"tls:localhost:{port}", "--cafile", pki.ca, *args]
        found = netkit("resolve", name, *server)
        assert (found.code, found.out) == (60, b"")
        assert found.err.startswith(f"netkit resolve: cannot resolve {name}: ")
        assert reason in found.err
    assert name not in dns[1].read_text()


def test_a_certificate_need_not_be_trusted(dns: tuple[int, Path], pki: Pki) -> None:
    """--servername verifies another name, and --insecure none, with a line that says so."""
    with front(pki.bad("wrong name").both, dns[0]) as port:
        server = ["both.test", "-4", "--server", f"tls:localhost:{port}"]
        named = netkit("resolve", *server, "--servername", "other.example", "--cafile", pki.ca)
        assert named == (0, b"192.0.2.1\n", "")
        warning = f"netkit resolve: the certificate of tls:localhost:{port} is not verified (--insecure)\n"
        assert netkit("resolve", *server, "--insecure") == (0, b"192.0.2.1\n", warning)


def test_a_server_without_tls_is_35_and_one_that_is_silent_28() -> None:
    """A server that does not speak TLS is exit code 35, and one that never answers 28 after -w."""
    with peer(send(GREETING)) as plain, peer(read_all) as silent:
        found = netkit("resolve", "both.test", "-4", "--server", f"tls:{plain.address}")
        assert found.code == 35
        assert "cannot resolve both.test: the peer does not speak TLS" in found.err
        found = netkit("resolve", "both.test", "-4", "--server", f"tls:{silent.address}", "-w", "200ms")
        assert found.code == 28
        assert f"no answer within 200 ms ({silent.address})" in found.err


def test_a_server_that_ends_before_its_answer(pki: Pki) -> None:
    """A TLS connection that ends before the answer is exit code 8."""

    def end(client: Secured) -> None:
        client.recv()
        client.end()

    with peer(serving(pki.server(), end)) as server:
        found = netkit("resolve", "x.test", "-4", "--server", f"tls:{server.address}", "--cafile", pki.ca)
    assert (found.code, found.out) == (8, b"")
    assert "cannot resolve x.test: it ended before its answer did" in found.err


# -- DNS over HTTPS

DNSDIST = """
setSecurityPollSuffix("")
setLocal("127.0.0.1:{local}")
newServer("127.0.0.1:{backend}"):setUp()
addDOHLocal("127.0.0.1:{port}", "{pair.cert}", "{pair.key}", "/dns-query")
"""


@pytest.fixture(scope="module")
def dnsdist(dns: tuple[int, Path], pki: Pki) -> Iterator[str]:
    """Run dnsdist in front of dnsmasq; yield its URL."""
    port, configuration = free_port(), pki.folder / "dnsdist.conf"
    configuration.write_text(DNSDIST.format(local=free_port(), backend=dns[0], port=port, pair=pki.good))
    with running(argv=[tool("dnsdist"), "-C", str(configuration), "--supervised", "--disable-syslog"]):
        assert netkit("portcheck", f"127.0.0.1:{port}", "--wait", "10s", "-q").code == 0
        yield f"https://localhost:{port}/dns-query"


def test_a_server_is_asked_over_https(dnsdist: str, dns: tuple[int, Path], pki: Pki) -> None:
    """Addresses and long answers arrive over HTTPS; a server that is not trusted gets no query."""
    server = ["--server", dnsdist, "--cafile", pki.ca]
    assert netkit("resolve", "both.test", *server) == (0, b"192.0.2.1\n2001:db8::1\n", "")
    told = json.loads(netkit("resolve", "long.test", "--type", "TXT", "--json", *server).out)
    assert (told["protocol"], told["server"], len(told["text"])) == ("https", dnsdist, 1250)
    found = netkit("resolve", "nosuch.test", "--type", "A", "-v", *server)
    assert found.code == 6
    assert f"{dnsdist} answered for nosuch.test A over https in " in found.err
    assert f"cannot resolve nosuch.test: name not found ({dnsdist})\n" in found.err
    distrusted = netkit("resolve", "secret.test", "--server", dnsdist, "--cafile", pki.other_ca)
    assert (distrusted.code, "secret.test" in dns[1].read_text()) == (60, False)
    warning = f"netkit resolve: the certificate of {dnsdist} is not verified (--insecure)\n"
    assert netkit("resolve", "both.test", "-4", "--server", dnsdist, "--insecure") == (0, b"192.0.2.1\n", warning)
    elsewhere = dnsdist.replace("dns-query", "nosuch")
    found = netkit("resolve", "both.test", "-4", "--server", elsewhere, "--cafile", pki.ca)
    assert (found.code, found.out) == (6, b"")
    assert re.search(rf"cannot resolve both.test: the server answered 404 .* \({elsewhere}\)", found.err)


def answering(status: str, kind: str, body: bytes) -> Callable[[Secured], bytes]:
    """Return a server that reads the request, sends this answer and returns the request."""

    def behave(client: Secured) -> bytes:
        asked = b""
        while not asked.endswith(b"\0\0\x01\0\x01" + OPT):
            asked += client.recv()
        client.send(f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: 90\r\n\r\n".encode() + body)
        client.end()
        return asked

    return behave


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        (("503 Busy", MESSAGE, b""), 6, "the server answered 503 Busy"),
        (("302 Found", MESSAGE, b""), 6, "the server answered 302 Found"),
        (("200 OK", "Text/HTML; charset=utf-8", b"x" * 90), 8, f"what came is text/html, not {MESSAGE}"),
        (("200 OK", MESSAGE, b"x" * 90), 8, "it is malformed"),
        (("200 OK", MESSAGE, b"x"), 18, "the server ended early"),
    ],
)
def test_answers_over_https_that_are_none(pki: Pki, answer: tuple[str, str, bytes], code: int, reason: str) -> None:
    """Each bad answer over HTTPS has its exit code and message; the query is a DNS message with id 0."""
    with peer(serving(pki.server(), answering(*answer))) as server:
        url = f"https://me:secret@{server.address}/ask?x"
        found = netkit("resolve", "x.test", "--type", "A", "--server", url, "--cafile", pki.ca)
        head, _, body = server.result().partition(b"\r\n\r\n")
    assert (found.code, found.out) == (code, b"")
    assert found.err == f"netkit resolve: cannot resolve x.test: {reason} (https://{server.address}/ask?x)\n"
    assert head.startswith(b"POST /ask?x HTTP/1.1\r\n")
    assert b"\r\nContent-Type: application/dns-message\r\n" in head
    assert b"\r\nAuthorization: Basic bWU6c2VjcmV0" in head
    assert body.startswith(b"\0\0\x01")


# -- ports


def pair_of(pki: Pki, kind: str) -> Pair:
    """Return a good pair, or a bad one of this kind."""
    return pki.good if kind == "good" else pki.bad(kind)


def welcome(client: Secured) -> bytes:
    """Send a line, and return all data received."""
    client.send(b"welcome\n")
    data = client.read_all()
    client.end()
    return data


def told(result: Finished) -> dict[int, dict[str, Any]]:
    """Return the object of each port."""
    return {each["port"]: each for each in map(json.loads, result.out.splitlines())}


def test_certificates_good_and_bad(pki: Pki) -> None:
    """A port with a bad certificate is open with the reason, and gets no data; the exit code is 60."""
    missing = "the server does not send its intermediate certificate"
    wanted = {
        "good": (0, None),
        "ending": (60, "its certificate ends in 10.0 days"),
        "expired": (60, "certificate has expired"),
        "wrong name": (60, "hostname mismatch, certificate is not valid for 'localhost'"),
        "untrusted": (60, f"{missing} {pki.other}, or that is a root which {pki.ca} lacks"),
        "self-signed": (60, "self-signed certificate"),
    }
    with ExitStack() as stack:
        servers = {name: stack.enter_context(peer(serving(pki.server(pair_of(pki, name)), welcome))) for name in wanted}
        ports = ",".join(str(server.port) for server in servers.values())
        asked = ["--send", "SECRET\\n", "--expect", "welcome", "--expires", "240h", "--json", "--all-open"]
        found = netkit("portcheck", f"tls:localhost:{ports}", "-4", "--cafile", pki.ca, *asked)
        heard = {name for name, server in servers.items() if server.result() == b"SECRET\n"}
    of = {name: told(found)[server.port] for name, server in servers.items()}
    assert {name: (each["exit_code"], each.get("reason")) for name, each in of.items()} == wanted
    assert {each["state"] for each in of.values()} == {"open"}
    assert heard == {"good"}
    assert found.code == 60
    assert of["good"]["text"] == "welcome"
    assert of["good"]["tls"]["protocol"] == "TLSv1.3"
    assert of["good"]["tls"]["names"][:2] == ["localhost", "127.0.0.1"]
    assert of["good"]["tls"].keys() >= {"cipher", "not_before", "not_after"}


def test_the_line_of_a_port(pki: Pki) -> None:
    """The line has the TLS version, the certificate's end and the banner; -v has cipher and ALPN."""
    context = pki.server(pki.bad("ending"), maximum_version=ssl.TLSVersion.TLSv1_2)
    context.set_alpn_protocols(["h2"])
    with peer(serving(context, welcome)) as server:
        args = [f"localhost:{server.port}", "-4", "--tls", "--cafile", pki.ca, "--alpn", "h2", "-v"]
        found = netkit("portcheck", *args, "--banner", "--expires", "200h")
        assert found.code == 0, found
        shown = r"TLSv1\.2, localhost, 127\.0\.0\.1, by OU=Testing CA .+, ends \d{4}-\d\d-\d\d \(9 days\)"
        line = rf"localhost\t{server.port}/tcp\t127\.0\.0\.1\topen\t[\d.]+\t{shown}: welcome\n"
        assert re.fullmatch(line, found.out.decode())
        assert re.search(r"secured by TLSv1\.2 with \S+, ALPN h2, certificate of localhost, ", found.err)
        found = netkit("portcheck", f"tls:localhost:{server.port}", "-4", "--insecure")
    assert found.code == 0
    assert re.search(rf"\t{shown}\n", found.out.decode())
    assert found.err == "netkit portcheck: the certificate of localhost is not verified (--insecure)\n"


def test_servers_without_tls(pki: Pki) -> None:
    """A peer without TLS is exit code 35, and one that never answers 28 after -w; closed ports are reported too."""
    expired = serving(pki.server(pki.bad("expired")), welcome)
    with peer(send(GREETING)) as plain, peer(read_all) as silent, peer(expired) as distrusted:
        found = netkit("portcheck", f"tls:localhost:{silent.port}", "-w", "300ms", "--json")
        [stalled] = told(found).values()
        assert (found.code, stalled["state"], stalled["reason"]) == (28, "open", "no TLS handshake in time")
        assert stalled["time_ms"] >= 300
        ports = f"tls:127.0.0.1:{plain.port},{free_port()}"
        found = netkit("portcheck", ports, f"127.0.0.1:{plain.port}", "--json")
        assert found.code == 7
        assert sorted(json.loads(line)["exit_code"] for line in found.out.splitlines()) == [0, 7, 35]
        assert "the peer does not speak TLS" in found.err
        found = netkit("portcheck", f"tls:localhost:{plain.port},{distrusted.port}", "--cafile", pki.ca)
        assert found.code == 60
        heard = sorted(plain.result()[:1] for _ in range(3))  # none was reset
        assert heard == [b"", b"\x16", b"\x16"]  # the latter two are a ClientHello and its alert


def test_certificates_of_ours(pki: Pki) -> None:
    """A server that requires a client certificate gets it; without one the check is exit code 35 once it reads."""
    with peer(serving(pki.server(asks=True), welcome)) as server:
        asked = [f"tls:{server.address}", "--cafile", pki.ca, "--send", "abc\\n", "--expect", "welcome"]
        found = netkit("portcheck", *asked)
        assert found.code == 35
        assert "the peer sent alert certificate_required" in found.err
        assert netkit("portcheck", *asked, *pki.client.options(), "-q") == (0, b"", "")


def test_files_are_read_first() -> None:
    """A missing --cafile is exit code 26 at once, even with --wait."""
    found = netkit("portcheck", f"tls:localhost:{free_port()}", "--cafile", "/nosuch", "--wait", "1m")
    assert found == (26, b"", "netkit portcheck: cannot read authorities from /nosuch: no such file or directory\n")
