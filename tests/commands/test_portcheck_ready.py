"""``netkit portcheck`` with probes that ask a service whether it is ready: URLs, protocols, unix sockets."""

import contextlib
import json
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from netkit.protocols.probes.table import PROBES
from tests.support import Peer, netkit, peer, read_all, reset, running
from tests.support.certificates import Pki
from tests.support.peers import address, free_port, receive, udp


def answering(*answers: bytes, until: bytes = b"\r\n") -> Callable[[socket.socket], bytes]:
    """Return a server that sends the next answer after each request, and returns all data received."""

    def behave(client: socket.socket) -> bytes:
        came = b""
        for answer in answers:
            begin = len(came)
            while until not in came[begin:] and (data := client.recv(4096)):
                came += data
            client.sendall(answer)
        return came + read_all(client)

    return behave


def redis(*answers: bytes) -> contextlib.AbstractContextManager[Peer]:
    """Run a server that answers each line."""
    return peer(answering(*answers))


def http(status: bytes, body: bytes = b"") -> contextlib.AbstractContextManager[Peer]:
    """Run a server that answers one HTTP request."""
    head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
    return peer(answering(head + body, until=b"\r\n\r\n"))


def cells(out: bytes) -> list[str]:
    """Return state and detail of a line."""
    return out.decode().rstrip("\n").split("\t")[3::2]


@pytest.mark.parametrize(
    ("answer", "detail", "code"),
    [
        (b"+PONG\r\n", "ready", 0),
        (b"-NOAUTH Authentication required.\r\n", "ready: it wants a password", 0),
        (b"-LOADING Redis is loading\r\n", "not ready: LOADING Redis is loading", 8),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not ready: it does not speak redis: SSH-2.0-OpenSSH_9.2", 8),
    ],
)
def test_what_a_service_says(answer: bytes, detail: str, code: int) -> None:
    """A target with a probe is ready once its service says so."""
    with redis(answer) as server:
        done = netkit("portcheck", f"redis://{server.address}", "--json")
        line = json.loads(done.out)
        assert server.result().startswith(b"PING\r\n")
    assert (line["state"], line["ready"], done.code) == ("open", not code, code)
    assert line["target"] == f"redis://{server.address}"
    assert ": ".join(filter(None, ("not ready" if code else "ready", line.get("reason")))) == detail


@pytest.mark.parametrize(
    ("behave", "code", "state", "detail"),
    [
        (None, 7, "closed", "connection refused"),
        (read_all, 28, "open", "not ready: no answer within 2 s"),
        (lambda client: None, 8, "open", "not ready: it closed the connection"),
        (reset, 8, "open", "not ready: it closed the connection"),
    ],
    ids=["absent", "silent", "leaving", "resetting"],
)
def test_who_says_nothing_or_leaves(
    behave: Callable[[socket.socket], None] | None, code: int, state: str, detail: str
) -> None:
    """For every probe no answer is exit code 28, an end or a reset before the answer 8, and a refused connection 7."""
    with peer(behave or read_all) as server:
        place = server.address if behave else f"127.0.0.1:{free_port()}"
        schemes = [name for name, probe in PROBES.items() if probe.protocol == "tcp" and not probe.tls]
        patience = "2s" if code == 28 else "20s"
        done = netkit("portcheck", *(f"{name}://{place}" for name in schemes), "-w", patience)
    assert done.code == code
    assert [cells(line) for line in done.out.splitlines(keepends=True)] == [[state, detail]] * len(schemes)


def test_a_failure_names_the_target_as_typed() -> None:
    """The message has the target as typed, without user, password and path."""
    with redis(b"-LOADING\r\n") as server:
        done = netkit("portcheck", f"redis://me:secret@{server.address}/7")
    assert done.code == 8
    assert done.err.startswith(f"netkit portcheck: cannot find redis://{server.address} ready: LOADING (")
    assert "secret" not in done.err and b"secret" not in done.out


def test_waiting_until_a_service_is_ready() -> None:
    """--wait asks again until the service is ready."""
    told = iter([b"-LOADING\r\n", b"-LOADING\r\n", b"+PONG\r\n"])

    def behave(client: socket.socket) -> None:
        receive(client, 6)
        client.sendall(next(told))
        read_all(client)

    with peer(behave) as server:
        done = netkit("portcheck", f"redis://{server.address}", "--wait", "20s", "--interval", "10ms")
    assert (done.code, cells(done.out)) == (0, ["open", "ready"])
    assert next(told, None) is None


@pytest.mark.parametrize(
    ("status", "options", "detail", "code"),
    [
        (b"302 Found", [], "ready: 302 Found", 0),
        (b"503 Service Unavailable", [], "not ready: 503 Service Unavailable", 8),
        (b"503 Service Unavailable", ["--status", "200,503"], "ready: 503 Service Unavailable", 0),
        (b"200 OK", ["--expect", "down"], "not ready: 200 OK, and nothing in its body matches --expect", 8),
    ],
)
def test_urls(status: bytes, options: list[str], detail: str, code: int) -> None:
    """The status counts, or --status, and the body has to match --expect; -H adds, replaces or removes a field."""
    given = ("-H", "X-Who: me", "-H", "Host: app", "-H", "Accept:")
    with http(status, b"all is\nup\n") as server:
        done = netkit("portcheck", f"http://{server.address}/health?x", *given, *options)
        head = server.result()
    assert (done.code, cells(done.out)) == (code, ["open", detail])
    assert head.startswith(b"GET /health?x HTTP/1.1\r\n")
    assert b"\r\nX-Who: me\r\n" in head and head.count(b"Host:") == 1 and b"Host: app\r\n" in head
    assert b"Accept:" not in head


def test_what_is_no_answer_of_http() -> None:
    """A malformed HTTP answer is not ready."""
    with peer(answering(b"SSH-2.0-x\r\n", until=b"\r\n\r\n")) as server:
        done = netkit("portcheck", f"http://{server.address}/")
    assert done.code == 8
    assert cells(done.out)[1].startswith("not ready: ")


def test_tls(pki: Pki) -> None:
    """https and schemes with TLS verify the certificate, and --tls secures the others."""
    with running("listen", "tls:0", "-4", "--reply", "+PONG\\r\\n", *pki.good.options()) as server:
        port = server.port
        for words in ([f"rediss://localhost:{port}"], [f"redis://localhost:{port}", "--tls"]):
            done = netkit("portcheck", *words, "-4", "--cafile", pki.ca)
            assert done.code == 0
            assert cells(done.out)[1].startswith("ready, TLSv1.3, ")
        done = netkit("portcheck", f"rediss://localhost:{port}", "-4")
        assert done.code == 60
        assert not cells(done.out)[1].startswith("ready")


@pytest.mark.parametrize(("options", "agreed"), [([], "postgresql"), (["--alpn", "other"], "other")])
def test_what_tls_agrees_on(pki: Pki, options: list[str], agreed: str) -> None:
    """A probe offers its own protocol by ALPN, unless --alpn is given."""
    context = pki.server()
    context.set_alpn_protocols(["other", "postgresql"])

    def agree(client: socket.socket) -> str | None:
        with context.wrap_socket(client, server_side=True) as secured:
            return secured.selected_alpn_protocol()

    with peer(agree) as server:
        netkit("portcheck", f"postgres://localhost:{server.port}", "-4", "--tls", "--cafile", pki.ca, *options)
        assert server.result() == agreed


@pytest.fixture
def unix_server(tmp_path: Path) -> Iterator[str]:
    """The path of a unix socket of a server that replies +PONG."""
    path = str(tmp_path / "s")
    with running("listen", f"unix:{path}", "--reply", "+PONG\\r\\n") as server:
        server.line("listening on ")
        yield path


def test_unix_sockets(unix_server: str, tmp_path: Path) -> None:
    """A unix socket has a state and no port, and --send and --expect work."""
    done = netkit("portcheck", f"unix:{unix_server}", "--send", "PING\\r\\n", "--expect", "PONG")
    assert (done.code, done.err) == (0, "")
    assert done.out.decode().split("\t")[:4] == [f"unix:{unix_server}", "-", "-", "open"]
    assert done.out.endswith(b"PONG\n")
    gone = netkit("portcheck", f"unix:{tmp_path}/gone", "--json")
    assert gone.code == 7
    line = json.loads(gone.out)
    assert (line["state"], line["reason"], line.get("port")) == ("closed", "no such file or directory", None)


def test_a_unix_socket_whose_server_left(tmp_path: Path) -> None:
    """A socket file without a server refuses connections."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
    done = netkit("portcheck", f"unix:{path}")
    assert (done.code, cells(done.out)) == (7, ["closed", "connection refused"])


def test_ports_and_services_together() -> None:
    """Targets with and without probes can be checked together."""
    with redis(b"+PONG\r\n") as first, http(b"200 OK") as second, peer(read_all) as third:
        done = netkit("portcheck", f"redis://{first.address}", f"http://{second.address}", third.address)
    assert done.code == 0
    assert sorted(cells(line + b"\n")[1] for line in done.out.splitlines()) == ["", "ready", "ready: 200 OK"]


def test_datagrams() -> None:
    """A UDP probe ignores wrong answers and repeats its query; silence and refusals have the usual states."""

    def answer(sock: socket.socket) -> None:
        sock.recv(512)  # lost
        query, client = sock.recvfrom(512)
        for said in (b"nonsense", query[:2] + b"\x81\x80" + query[4:]):
            sock.sendto(said, client)

    with udp() as server, ThreadPoolExecutor() as pool:
        answering = pool.submit(answer, server)
        done = netkit("portcheck", f"dns://{address(server)}", "-w", "2s")
        answering.result()
        assert (done.code, cells(done.out)) == (0, ["open", "ready"])
        silent = netkit("portcheck", f"ntp://{address(server)}", "-w", "200ms")
        assert (silent.code, cells(silent.out)) == (28, ["open|filtered", "no answer"])
        port = server.getsockname()[1]
    assert netkit("portcheck", f"ntp://127.0.0.1:{port}").code == 7


def test_help_names_every_probe() -> None:
    """The help of portcheck lists all probes."""
    said = " ".join(netkit("help", "portcheck").out.decode().split())
    named = said.partition("PROBE is ")[2].partition(".")[0]
    assert re.split(", | or ", named) == [*PROBES]
