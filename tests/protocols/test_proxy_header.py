"""The PROXY protocol's header: the bytes of the specification, and what ``--send-proxy`` sends."""

import ipaddress
import socket
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netkit.core.address import Endpoint
from netkit.protocols.proxy_header import Malformed, crc32c, header, parse
from tests.support import Finished, netkit, peer, read_all, running
from tests.support.certificates import Pki
from tests.support.peers import read_until

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
ENDS = (Endpoint("192.0.2.1", 56324), Endpoint("198.51.100.7", 443))
ADDRESSES = bytes.fromhex("c0000201 c6336407 dc04 01bb")


def binary(kind: int, body: bytes, command: int = 0x21, size: int | None = None) -> bytes:
    """Return a header of version 2."""
    return SIGNATURE + struct.pack("!BBH", command, kind, len(body) if size is None else size) + body


def field(kind: int, value: bytes) -> bytes:
    """Return a field that may follow the addresses: type, length and value."""
    return struct.pack("!BH", kind, len(value)) + value


def summed(*others: bytes) -> bytes:
    """Return a header with a correct checksum, between other fields."""
    before = b"".join(others)
    blank = binary(0x11, ADDRESSES + before + field(3, bytes(4)) + field(4, b"padding"))
    at = blank.rindex(field(3, bytes(4))) + 3
    return blank[:at] + struct.pack("!I", crc32c(blank)) + blank[at + 4 :]


@pytest.mark.parametrize(
    ("source", "destination", "line", "rest"),
    [
        (
            Endpoint("192.0.2.1", 56324),
            Endpoint("198.51.100.7", 443),
            b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n",
            "2111 000c c0000201 c6336407 dc04 01bb",
        ),
        (
            Endpoint("fe80::1%lo", 1),
            Endpoint("::1", 65535),
            b"PROXY TCP6 fe80::1 ::1 1 65535\r\n",
            f"2121 0024 fe80{'00' * 13}01 {'00' * 15}01 0001 ffff",
        ),
        (
            Endpoint(path=""),
            Endpoint(path="/run/a"),
            b"PROXY UNKNOWN\r\n",
            f"2131 00d8 {'00' * 108} {b'/run/a'.hex()}{'00' * 102}",
        ),
    ],
)
def test_the_bytes_are_those_of_the_specification(
    source: Endpoint, destination: Endpoint, line: bytes, rest: str
) -> None:
    """Headers are those of HAProxy's proxy-protocol.txt, sections 2.1 and 2.2."""
    assert header("v1", source, destination) == line
    assert header("v2", source, destination) == SIGNATURE + bytes.fromhex(rest)


def test_the_sum() -> None:
    """Checksums are those of RFC 3720, appendix B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


UNIX = bytes.fromhex(f"{b'/run/a'.hex()}{'00' * 102} 00{b'name'.hex()}{'00' * 103}")

GOOD = {
    b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n": ENDS,
    b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.7 0 65535\r\n": (
        Endpoint("2001:db8::1", 0),
        Endpoint("::ffff:192.0.2.7", 65535),
    ),
    b"PROXY UNKNOWN\r\n": (None, None),
    b"PROXY UNKNOWN ffff::1 anything at all\r\n": (None, None),
    b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n": (None, None),
    binary(0x11, ADDRESSES): ENDS,
    binary(0x12, ADDRESSES): ENDS,  # over UDP
    binary(0x21, bytes(15) + b"\1" + bytes(15) + b"\2" + bytes.fromhex("0001 ffff")): (
        Endpoint("::1", 1),
        Endpoint("::2", 65535),
    ),
    binary(0x31, UNIX): (Endpoint(path="/run/a"), Endpoint(path="\0name")),
    binary(0x11, ADDRESSES + field(1, b"h2") + field(4, bytes(300)) + field(0xEE, b"")): ENDS,
    binary(0x11, ADDRESSES + field(4, bytes(65535 - 12 - 3))): ENDS,  # the longest header
    summed(field(1, b"h2"), field(2, b"example.org")): ENDS,
    binary(0x00, b""): (None, None),
    binary(0x00, b"what it cannot say"): (None, None),
    binary(0x00, b"", 0x20): (None, None),
    binary(0x11, ADDRESSES, 0x20): (None, None),  # from the proxy itself, as for a health check
    binary(0xFF, b"\xff" * 7, 0x20): (None, None),
}


@pytest.mark.parametrize("told", GOOD)
def test_what_a_header_says(told: bytes) -> None:
    """A prefix of a header asks for more bytes, and data after the header is left."""
    for size in {*range(min(len(told), 300)), len(told) - 1}:
        assert parse(told[:size]) is None
    for rest in (b"", b"\r\n", b"\0", told):
        assert parse(told + rest) == (len(told), *GOOD[told])


BAD = {
    "no header": (b"GET / HTTP/1.0\r\n", r"what came begins with b'GET / HTTP/1'"),
    "TLS": (b"\x16\x03\x01", "what came begins with"),
    "not from the first byte on": (b" PROXY UNKNOWN\r\n", "what came begins with"),
    "in lower case": (b"proxy unknown\r\n", "what came begins with"),
    "another line": (b"PROXX", "what came begins with"),
    "a signature with a wrong end": (SIGNATURE[:-1] + b"\r", "what came begins with"),
    "v1 without a protocol": (b"PROXY \r\n", "not TCP4 or TCP6"),
    "v1 with another": (b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", "not TCP4 or TCP6"),
    "v1 with too little": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "not TCP4 or TCP6"),
    "v1 with too much": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", "not TCP4 or TCP6"),
    "v1 with two spaces": (b"PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n", "not TCP4 or TCP6"),
    "v1 with a space at its end": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", "not TCP4 or TCP6"),
    "v1 with an address of the other family": (b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", "b'192.0.2.1' for an addr"),
    "v1 with a name": (b"PROXY TCP4 localhost 192.0.2.2 1 2\r\n", "b'localhost' for an address"),
    "v1 with an octal address": (b"PROXY TCP4 192.0.02.1 192.0.2.2 1 2\r\n", "for an address"),
    "v1 with a legacy address": (b"PROXY TCP4 127.1 192.0.2.2 1 2\r\n", "for an address"),
    "v1 with a zone": (b"PROXY TCP6 fe80::1%lo ::1 1 2\r\n", "for an address"),
    "v1 with other digits": ("PROXY TCP4 \uff11.0.0.1 192.0.2.2 1 2\r\n".encode(), "for an address"),
    "v1 with a NUL": (b"PROXY TCP4 192.0.2.1\0 192.0.2.2 1 2\r\n", "for an address"),
    "v1 with a port too large": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n", "b'65536' for a port"),
    "v1 with a signed port": (b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", "for a port"),
    "v1 with an octal port": (b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", "for a port"),
    "v1 with an empty port": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n", "for a port"),
    "v1 with LF alone": (b"PROXY UNKNOWN\n", "no CR LF ends its line"),
    "v1 without an end": (b"PROXY UNKNOWN " + b"x" * 93, "no CR LF ends its line within 107 bytes"),
    "v1 too long by a byte": (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "no CR LF ends its line within 107 bytes"),
    "another version": (binary(0x11, ADDRESSES, 0x11), "its version is 1"),
    "another command": (binary(0x11, ADDRESSES, 0x22), "its command is 2"),
    "another family": (binary(0x41, ADDRESSES), "its family and transport are 4 and 1"),
    "another transport": (binary(0x13, ADDRESSES), "its family and transport are 1 and 3"),
    "IPv4 that is short": (binary(0x11, ADDRESSES[:-1]), "its addresses have 11 bytes, not 12"),
    "IPv6 that is short": (binary(0x21, bytes(35)), "its addresses have 35 bytes, not 36"),
    "paths that are short": (binary(0x31, bytes(215)), "its addresses have 215 bytes, not 216"),
    "no addresses": (binary(0x11, b""), "its addresses have 0 bytes, not 12"),
    "a field that ends early": (binary(0x11, ADDRESSES + field(1, b"h2")[:-1]), "a field of it is longer"),
    "a field without its length": (binary(0x11, ADDRESSES + b"\1\0"), "a field of it is longer"),
    "a wrong sum": (binary(0x11, ADDRESSES + field(3, b"\1\2\3\4")), "its CRC-32C is wrong"),
    "a sum of five bytes": (binary(0x11, ADDRESSES + field(3, bytes(5))), "its CRC-32C is wrong"),
    "a changed byte": (summed().replace(b"padding", b"Padding"), "its CRC-32C is wrong"),
    "two sums": (summed(field(3, bytes(4))), "its CRC-32C is wrong"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_header(case: str) -> None:
    """A bad header is refused as soon as no more bytes could make it a good one."""
    data, reason = BAD[case]
    with pytest.raises(Malformed, match=reason):
        parse(data)


@given(
    *(st.tuples(st.ip_addresses(v=version), st.ip_addresses(v=version)) for version in (4, 6)),
    st.tuples(*[st.integers(0, 65535)] * 2),
    st.sampled_from(["v1", "v2"]),
    st.binary(max_size=20),
)
def test_what_we_send_we_understand(
    ipv4: tuple[ipaddress.IPv4Address, ...],
    ipv6: tuple[ipaddress.IPv6Address, ...],
    ports: tuple[int, int],
    version: str,
    rest: bytes,
) -> None:
    """Headers of both versions and families are parsed as they were made, whatever follows them."""
    for hosts in (ipv4, ipv6):
        names = (socket.inet_ntop(_family(host), host.packed) for host in hosts)
        ends = list(map(Endpoint, names, ports))
        told = header(version, *ends)
        assert parse(told + rest) == (len(told), *ends)


def _family(host: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    return socket.AF_INET if host.version == 4 else socket.AF_INET6


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connect_tells_of_itself(host: str) -> None:
    """``connect`` sends the header with its own address first, and then its input."""
    with peer(lambda sock: (sock.getpeername()[1], read_all(sock)), host) as server:
        assert netkit("connect", server.address, "--send-proxy", "v1", input=b"hi") == Finished(0, b"", "")
        port, data = server.result()
    family = "TCP6" if ":" in host else "TCP4"
    assert data == f"PROXY {family} {host} {host} {port} {server.port}\r\nhi".encode()


def test_a_unix_socket_has_addresses_in_version_2_alone(tmp_path: Path) -> None:
    """For unix sockets v2 has the path at which the client connected, and v1 says UNKNOWN."""
    near, far = f"{tmp_path}/near", f"{tmp_path}/far"
    for version, told in (
        ("v1", b"PROXY UNKNOWN\r\n"),
        ("v2", binary(0x31, near.encode().ljust(108, b"\0") + near.encode().ljust(108, b"\0"))),
    ):
        with (
            running("listen", f"unix:{far}", stdin=subprocess.DEVNULL) as server,
            running("relay", f"unix:{near}", f"unix:{far}", "--send-proxy", version, "--once") as relay,
        ):
            server.line("listening")
            relay.line("listening")
            assert netkit("connect", f"unix:{near}", input=b"hello") == Finished(0, b"", "")
            assert server.finish().out == told + b"hello"


def test_a_relay_tells_of_its_client() -> None:
    """``relay`` sends each client's own address, and its own port."""
    with peer(read_all) as server, running("relay", "127.0.0.1:0", server.address, "--send-proxy", "v1") as relay:
        port = relay.port
        for word in (b"one", b"two"):
            with socket.create_connection(("127.0.0.1", port)) as client:
                own = client.getsockname()[1]
                client.sendall(word)
                client.shutdown(socket.SHUT_WR)
                line = f"PROXY TCP4 127.0.0.1 127.0.0.1 {own} {port}\r\n"
                assert server.result() == line.encode() + word
                assert read_all(client) == b""


def test_it_goes_before_tls(pki: Pki) -> None:
    """The header is sent before the TLS handshake, in plaintext."""

    context = pki.server()

    def serve(sock: socket.socket) -> bytes:
        line = read_until(sock, b"\r\n")
        with context.wrap_socket(sock, server_side=True) as secured:
            data = read_all(secured)
            secured.unwrap()
            return line + data

    with peer(serve) as server:
        words = ("--send-proxy", "v1", "--cafile", pki.ca)
        done = netkit("connect", f"tls:{server.address}", *words, "--shutdown-after", "0", input=b"secret")
        assert done.code == 0, done
        line, _, rest = server.result().partition(b"\r\n")
    assert line.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ") and rest == b"secret"
