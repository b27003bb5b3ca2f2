"""The PROXY protocol with haproxy, nginx and curl."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Finished, Running, free_port, netkit, running
from tests.support.certificates import Pki
from tests.support.partners import NGINX, await_listener, run
from tests.support.processes import HERE, tool

HAPROXY = """
defaults
    timeout connect 10s
    timeout client 10s
    timeout server 10s
listen one
    bind {bind}
    {rules}
"""
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
GET = b"GET / HTTP/1.0\r\n\r\n"
PAGE = "HTTP/1.0 200 OK\r\n\r\n{host} {port}"


@contextlib.contextmanager
def haproxy(folder: Path, options: str, *rules: str) -> Iterator[str]:
    """Run haproxy with these options for its port, and rules; yield its address once it listens."""
    port = free_port()
    conf = folder / "haproxy.cfg"
    conf.write_text(HAPROXY.format(bind=f"127.0.0.1:{port} {options}", rules="\n    ".join(rules)))
    with running(argv=[tool("haproxy"), "-db", "-f", str(conf)]):
        yield listening(port)


@contextlib.contextmanager
def nginx(folder: Path, rest: str, port: int, modules: str = "") -> Iterator[str]:
    """Run nginx with ``rest`` within the http block of its configuration; yield its address once it listens."""
    conf = folder / "nginx.conf"
    conf.write_text(modules + NGINX.format() + rest)
    with running(argv=[tool("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(conf)]):
        yield listening(port)


def listening(port: int) -> str:
    """Return the address of a port once a server listens on it, without connecting."""
    await_listener(port)
    return f"127.0.0.1:{port}"


def own_address(server: Running) -> str:
    """Return the address of the client, from the header, that a server prints with -v."""
    return server.line(r"is relayed for (\S+)$")[1]


def check_known(server: Running, done: Finished) -> None:
    """Wait until a server prints the address of our client, which ``-v`` shows; checks of the port come before."""
    while f"from {own_address(server)} " not in done.err:
        pass


# A rule by which haproxy answers with both addresses.
SHOWN = 'http-request return content-type text/plain lf-string "%[src]:%[src_port] %[dst]:%[dst_port]"'


def check_told(done: Finished, reached: str) -> None:
    """Assert that a page has our client's address, which ``-v`` shows, and the one that it reached."""
    client = done.err.partition(" from ")[2].split()[0]
    assert done.out.partition(b"\r\n\r\n")[2].decode() == f"{client} {reached}"


SENDING = {
    "v1": "send-proxy",
    "v2": "send-proxy-v2",
    "v2 with a sum": "send-proxy-v2 proxy-v2-options crc32c",
    "v2 with all it has": "send-proxy-v2-ssl-cn proxy-v2-options crc32c,unique-id,ssl,cert-cn,authority",
}


@pytest.mark.parametrize("how", SENDING)
def test_behind_haproxy(how: str, tmp_path: Path) -> None:
    """A server behind haproxy knows the address of haproxy's client, and data passes both ways."""
    with running("echo", HERE, "--accept-proxy", "-v") as server:
        rules = ("mode tcp", f"server s 127.0.0.1:{server.port} {SENDING[how]}")
        with haproxy(tmp_path, "", *rules) as address:
            done = netkit("connect", address, "-v", input=b"hello")
            assert (done.code, done.out) == (0, b"hello")
            assert f"connected to {address} from " in done.err
            check_known(server, done)


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_behind_tls_that_haproxy_passes_on(version: str, pki: Pki, tmp_path: Path) -> None:
    """A TLS server behind haproxy in TCP mode reads the header before the handshake."""
    with running("echo", f"tls:{HERE}", *pki.good.options(), "--accept-proxy", "-v") as server:
        rules = ("mode tcp", f"server s 127.0.0.1:{server.port} {version}")
        with haproxy(tmp_path, "", *rules) as address:
            words = ("--cafile", pki.ca, "--shutdown-after", "0", "-v")
            done = netkit("connect", f"tls:{address}", *words, input=b"hello")
            assert (done.code, done.out) == (0, b"hello"), done


def test_checks_of_health(tmp_path: Path) -> None:
    """haproxy's health checks, with LOCAL or without a header, find a server of netkit up."""
    with running("echo", HERE, "--accept-proxy", "-v") as server:
        rules = ("mode tcp", f"server s 127.0.0.1:{server.port} send-proxy-v2 check-send-proxy check inter 50ms")
        with haproxy(tmp_path, "", *rules) as address:
            server.line("connection from")
            done = netkit("connect", address, input=b"hello")
            assert (done.code, done.out) == (0, b"hello")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_haproxy_is_told(version: str, tmp_path: Path) -> None:
    """haproxy receives the source and destination addresses of a connection from connect --send-proxy."""
    with haproxy(tmp_path, "accept-proxy", "mode http", SHOWN) as address:
        done = netkit("connect", address, "--send-proxy", version, "-v", input=GET)
    check_told(done, address)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_through_a_relay_to_haproxy(version: str, tmp_path: Path) -> None:
    """haproxy behind relay --send-proxy receives the source and destination addresses of the relay's client."""
    with (
        haproxy(tmp_path, "accept-proxy", "mode http", SHOWN) as address,
        running("relay", HERE, address, "--send-proxy", version) as relay,
    ):
        here = f"127.0.0.1:{relay.port}"
        done = netkit("connect", here, "-v", input=GET)
    check_told(done, here)


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_between_two_of_haproxy(version: str, tmp_path: Path) -> None:
    """A relay between two haproxies passes both addresses on."""
    (tmp_path / "far").mkdir()
    with (
        haproxy(tmp_path / "far", "accept-proxy", "mode http", SHOWN) as far,
        running("relay", HERE, far, "--accept-proxy", "--send-proxy", "v2") as relay,
        haproxy(tmp_path, "", "mode tcp", f"server s 127.0.0.1:{relay.port} {version}") as near,
    ):
        done = netkit("connect", near, "-v", input=GET)
    check_told(done, near)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_nginx_is_told(version: str, tmp_path: Path) -> None:
    """nginx receives the source and destination addresses of a connection from connect --send-proxy."""
    port = free_port()
    known = "$proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_addr:$proxy_protocol_server_port"
    conf = f'server {{ listen 127.0.0.1:{port} proxy_protocol; location / {{ return 200 "{known}"; }} }} }}'
    with nginx(tmp_path, conf, port) as address:
        done = netkit("connect", address, "--send-proxy", version, "--no-shutdown", "-v", input=GET)
    check_told(done, address)


def test_behind_nginx(tmp_path: Path) -> None:
    """A server behind nginx's stream module, which sends version 1, knows the client's address."""
    if not STREAM_MODULE.exists():
        pytest.skip("nginx's module for streams is not installed")
    port = free_port()
    with running("echo", HERE, "--accept-proxy", "-v") as server:
        rules = f"listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{server.port}; proxy_protocol on; proxy_half_close on;"
        conf = f"}} stream {{ server {{ {rules} }} }}"
        with nginx(tmp_path, conf, port, f"load_module {STREAM_MODULE};\n") as address:
            done = netkit("connect", address, "-v", input=b"hello")
            assert (done.code, done.out) == (0, b"hello")
            check_known(server, done)


def test_curl_tells_of_itself() -> None:
    """listen accepts the header of version 1 that curl sends."""
    with running("listen", HERE, "--accept-proxy", "--reply", PAGE, "-v") as server:
        url = f"http://127.0.0.1:{server.port}/"
        curl = [tool("curl"), "-sS", "--noproxy", "*", "--haproxy-protocol", "-w", " %{local_ip} %{local_port}"]
        done = run([*curl, url])
        assert (done.code, done.err) == (0, "")
        host, port, *own = done.out.decode().split()
        assert [host, port] == own == own_address(server).split(":")
