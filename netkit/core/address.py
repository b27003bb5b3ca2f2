"""Parsing of addresses, hosts and ports, by one grammar for all commands. Only service names are looked up.

Words are read from left to right. A word that contains its port, or ``unix:...``, or for a server only digits, is a
complete address. Any other word is a host, and the next word is its port.
"""

import os
import re
import socket
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from netkit.core.errors import Invalid

Role = Literal["client", "server"]
Protocol = Literal["tcp", "udp"]

_MAX_UNIX_PATH = 107  # sun_path is 108 bytes with its closing NUL: unix(7)
_MAX_NAME = 253  # characters of a name that is 255 bytes on the wire: RFC 1035, section 2.3.4
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?")
_RANGE = re.compile(r"([0-9]+)-(.*)", re.DOTALL)
_ZONE = re.compile(r"[^\s%/:\[\]]+", re.ASCII)
_INTERFACE = re.compile(r"(?!\.{1,2}$)[^\s/:\0]+")  # dev_valid_name of Linux
_MAX_INTERFACE = 15  # bytes: netdevice(7), IFNAMSIZ with a NUL; the system ignores the rest of a longer one
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_SERVICE = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9+._-]*")
_LAST_LABEL_IS_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?$")


class Endpoint(NamedTuple):
    """Where to dial or to listen. Its ``str()`` parses back to an equal one (except for hosts named unix, tls or udp).

    ``host`` is a name or an address without brackets, "" for ``:PORT``, None for a bare PORT. ``path`` is set only for
    unix sockets; if it begins with NUL the socket is abstract. ``udp`` is for datagrams in place of TCP.
    """

    host: str | None = None
    port: int = 0
    path: str | None = None
    tls: bool = False
    udp: bool = False

    def __str__(self) -> str:
        over = "udp:" if self.udp else "tls:" if self.tls else ""
        if self.path is not None:
            return f"{over}unix:" + ("@" + self.path[1:] if self.path.startswith("\0") else self.path)
        if self.host is None:
            return f"{over}{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{over}{host}:{self.port}"

    def check_datagrams(self) -> None:
        """Raise Invalid if no datagram can be sent to, or received at, such an address."""
        if self.tls:
            raise Invalid(f"address {str(self)!r} is none for datagrams: they are not secured")


def take(words: Sequence[str], role: Role, *, udp: bool = False) -> tuple[Endpoint, list[str]]:
    """Parse an address at the start of ``words``; return it and the words left. ``udp`` allows ``udp:`` in front."""
    if not words:
        forms = "PORT, :PORT, HOST:PORT" if role == "server" else "HOST PORT, HOST:PORT"
        raise Invalid(f"an address is missing: {forms} or unix:PATH")
    first, *rest = words
    if "://" in first:
        fetch = "; netkit fetch gets URLs" if first.startswith(("http://", "https://")) else ""
        raise Invalid(f"address {first!r} is a URL: write HOST:PORT{fetch}")
    word, tls = without_tls(first, "address")
    is_udp = word.startswith("udp:")
    if is_udp and (tls or not udp):
        why = "datagrams are not secured" if tls else "udp: is for connect and listen"
        raise Invalid(f"address {first!r} does not apply: {why}")
    word = word.removeprefix("udp:")
    if word.startswith(("/", "./", "../")):
        raise Invalid(f"address {first!r} is a path: write unix: in front of it for a unix socket")
    if word.startswith("unix:"):
        return Endpoint(path=_unix_path(word.removeprefix("unix:")), tls=tls, udp=is_udp), rest
    if role == "server" and is_digits(word):
        return Endpoint(None, parse_port(word, role), tls=tls, udp=is_udp), rest
    is_port = is_digits(word) and not (rest and (is_digits(rest[0]) or len(word) > 5))
    host, port = take_host(word, rest, "address", is_port=is_port)
    return Endpoint(host, parse_port(port, role), tls=tls, udp=is_udp), rest


def take_host(word: str, rest: list[str], what: str, *, is_port: bool) -> tuple[str, str]:
    """Return the checked host of ``word`` and its port, which is removed from the front of ``rest`` if need be.

    ``what`` is how messages call the word. ``is_port`` is whether it is a port without a host. Raises Invalid.
    """
    host, port = split(word)
    if is_port:
        raise Invalid(f"port {word} has no host: write HOST {word}, or :{word} for this machine")
    if host or not word.startswith(":"):
        host = check_host(host)
    if port is None and not rest:
        raise Invalid(f"{what} {word!r} has no port: {_with_port(word, what)}")
    return host, rest.pop(0) if port is None else port


def _bracketed(word: str) -> str:
    """``[HOST]:PORT`` for an IPv6 address without brackets that seems to end with a port; "" for any other word."""
    host, _, port = word.rpartition(":")
    return f"[{host}]:{port}" if is_digits(port) and family_of(host) == socket.AF_INET6 else ""


def _with_port(word: str, what: str) -> str:
    """A hint how to write a word that has no port, or an IPv6 address with a port but no brackets."""
    if bracketed := _bracketed(word):
        return f"write {bracketed} if {word.rpartition(':')[2]} is the port"
    ports = "PORTS" if what == "target" else "PORT"
    return f"HOST {ports} or HOST:{ports}"


def parse_ports(text: str, protocol: Protocol = "tcp") -> list[int]:
    """Parse a list of ports, ranges and service names, ``22,80,8000-8010,http``. Returns each port once, in order."""
    ports: list[int] = []
    listed = bytearray(65536)  # 1 for each port in ``ports``; quick even if many large ranges overlap
    for part in text.split(","):
        if text and not part:
            raise Invalid(f"port list {text!r} has an empty part")
        if match := _RANGE.fullmatch(part):
            if not is_digits(match[2]):
                raise Invalid(f"port range {part!r} is not LOW-HIGH")
            low, high = parse_port(match[1]), parse_port(match[2])
            if low > high:
                raise Invalid(f"port range {part} is reversed: write {high}-{low}")
        else:
            low = high = parse_port(part, protocol=protocol)
        end = low
        while (start := listed.find(0, end, high + 1)) >= 0:
            end = listed.find(1, start, high + 1)
            end = high + 1 if end < 0 else end
            ports += range(start, end)
            listed[start:end] = bytes([1]) * (end - start)
    return ports


def parse(text: str, role: Role, *, udp: bool = False) -> Endpoint:
    """Parse an address that is one word, as ``str(Endpoint)`` returns it. Raises Invalid."""
    return take([text], role, udp=udp)[0]


def parse_port(text: str, role: Role = "client", protocol: Protocol | None = None) -> int:
    """Parse a port: ASCII digits without leading zero, or a service name. Only a server may have 0. Raises Invalid."""
    if is_digits(text):
        if len(text) > 1 and text.startswith("0"):
            raise Invalid(f"port {text} has a leading zero")
        lowest = 0 if role == "server" else 1
        if len(text) > 5 or not lowest <= int(text) <= 65535:
            raise Invalid(f"port {text[:40]} is not between {lowest} and 65535")
        return int(text)
    if not text:
        raise Invalid("the port is empty")
    if re.fullmatch(r"-[0-9]+", text):
        raise Invalid(f"port {text} is negative")
    if _SERVICE.fullmatch(text):
        try:
            return socket.getservbyname(text, *(protocol,) if protocol else ())
        except OSError:
            from netkit.core.port_names import find

            for service in find(text):
                if protocol in (service.protocol, None):
                    return service.port
            raise Invalid(f"port {text!r} is neither a number nor a known service") from None
    raise Invalid(f"port {text!r} is not a number")


def parse_source(text: str) -> tuple[str, int]:
    """Parse the source ``ADDR``, ``ADDR:PORT`` or ``:PORT``, where ADDR is an IP address and port 0 is any port."""
    host, port = split(text)
    if host:
        host = check_host(host)
        if family_of(host) is None:
            raise Invalid(f"source {text!r} is not an IP address")
    elif port is None:
        raise Invalid("the source is empty")
    return host, 0 if port is None else parse_port(port, "server")


def parse_interface(text: str) -> str:
    """Check the form of an interface's name, such as eth0, which need not exist. Raises Invalid."""
    if not _INTERFACE.fullmatch(text) or len(os.fsencode(text)) > _MAX_INTERFACE:
        raise Invalid(f"{text!r} is not the name of an interface, such as eth0")
    return text


@lru_cache(maxsize=256)
def family_of(host: str) -> int | None:
    """AF_INET or AF_INET6 for an address literal (zone included), None for a name."""
    family, literal = (socket.AF_INET6, host.partition("%")[0]) if ":" in host else (socket.AF_INET, host)
    try:
        socket.inet_pton(family, literal)
    except (OSError, ValueError):
        return None
    return family


def from_socket(address: Any) -> Endpoint:
    """The endpoint of a socket address, as getsockname or accept return it. IPv4-mapped IPv6 becomes IPv4."""
    if not isinstance(address, tuple):  # of a unix socket, bytes if it is abstract
        return Endpoint(path=os.fsdecode(address))
    host = host_of(address)
    if "." in host:
        host = host.removeprefix("::ffff:")  # RFC 4291, section 2.5.5.2
    return Endpoint(host, address[1])


def host_of(address: Any) -> str:
    """The host of an internet socket address. Its zone is included, of which the socket module keeps the number."""
    host: str = address[0]
    zone = address[3] if len(address) == 4 else 0
    return f"{host}%{interface_name(zone)}" if zone and "%" not in host else host


def interface_name(index: int) -> str:
    """The name of an interface, or its index if it does not exist any more."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)


def is_digits(text: str) -> bool:
    """Whether a text is not empty and has only ASCII digits."""
    return text.isascii() and text.isdigit()


def without_tls(word: str, what: str) -> tuple[str, bool]:
    """Return a word without a leading ``tls:``, and whether it had one. ``what`` is how Invalid calls the word."""
    rest = word.removeprefix("tls:")
    if rest.startswith("tls:"):
        raise Invalid(f"{what} {word!r} says tls: twice")
    return rest, rest != word


def split(word: str) -> tuple[str, str | None]:
    """Split a word into host and port; the port is None if it has none. Raises Invalid for wrong brackets."""
    if word.startswith("["):
        host, bracket, after = word[1:].partition("]")
        if not bracket:
            raise Invalid(f"address {word!r} has no closing bracket")
        if family_of(host) != socket.AF_INET6:
            raise Invalid(f"{host!r} in brackets is not an IPv6 address")
        if not after:
            return host, None
        if not after.startswith(":"):
            raise Invalid(f"address {word!r} has something other than :PORT after the bracket")
        return host, after[1:]
    if word.count(":") >= 2:
        return word, None
    host, colon, port = word.partition(":")
    return host, port if colon else None


def check_host(host: str) -> str:
    """Check a host, and return it as resolvers take it: an internationalized name in A-labels. Raises Invalid.

    ``<broadcast>`` is 255.255.255.255, as in Python's socket module.
    """
    if host == "<broadcast>":
        return "255.255.255.255"
    if host == "*":
        raise Invalid("host '*' is no name: a server takes every interface with :PORT")
    if not host or host.isspace():
        raise Invalid("the host is empty")
    if _CONTROL.search(host):
        raise Invalid(f"host {host!r} contains a space or a control character")
    if ":" in host:
        _check_ipv6(host)
    elif not host.isascii():
        host = _a_labels(host)
        _check_name(host)
    elif _LAST_LABEL_IS_NUMBER.search(host):
        _check_ipv4(host)
    else:
        _check_name(host)
    return host


def _a_labels(host: str) -> str:
    """Convert a name by IDNA 2008, without the mappings of UTS 46 by which other dots and digits become ASCII ones."""
    import unicodedata

    import idna

    if len(host) > _MAX_NAME:  # its A-labels would be longer still, and slow to compute
        raise Invalid(f"host name of {len(host)} characters is longer than {_MAX_NAME}: {host[:40]}...")
    try:
        return idna.encode(unicodedata.normalize("NFC", host.lower()), strict=True).decode()
    except idna.IDNAError as error:
        raise Invalid(f"host {host!r} is no internationalized name: {error}") from error


def _check_ipv6(host: str) -> None:
    address, percent, zone = host.partition("%")
    if family_of(address) != socket.AF_INET6:
        meant = f"write {_bracketed(host)} for :: and a port" if _bracketed(host) else "HOST:PORT has one colon"
        raise Invalid(f"host {host!r} is not an IPv6 address ({meant})")
    if percent and not zone:
        raise Invalid(f"host {host!r} has an empty zone")
    if percent and not (zone.isascii() and _ZONE.fullmatch(zone)):
        raise Invalid(f"host {host!r} has a zone that is no interface's name")
    packed = socket.inet_pton(socket.AF_INET6, address)
    if not percent and packed[0] == 0xFE and packed[1] & 0xC0 == 0x80:
        raise Invalid(f"link-local address {host} needs a zone: {host}%INTERFACE")


def _check_ipv4(host: str) -> None:
    if family_of(host) == socket.AF_INET:
        return
    if host.endswith("."):
        raise Invalid(f"host {host!r} is no IPv4 address: it ends with a dot")
    parts = host.split(".")
    if len(parts) > 4:
        raise Invalid(f"host {host!r} is no IPv4 address: {len(parts)} parts, not 4")
    meant = legacy(host)
    if meant is None:
        raise Invalid(f"host {host!r} is no IPv4 address: each of 4 parts is 0 to 255")
    raise Invalid(f"host {host!r} is a legacy spelling: write {meant} if you mean that")


def legacy(host: str) -> str | None:
    """The IPv4 address that inet_aton(3) makes of ``127.1``, ``0x7f000001`` and the like; None for all other hosts."""
    if not host.isascii() or not _LAST_LABEL_IS_NUMBER.search(host) or family_of(host) is not None:
        return None
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def _check_name(host: str) -> None:
    name = host.removesuffix(".")
    if len(name) > _MAX_NAME:
        raise Invalid(f"host name of {len(name)} bytes is longer than {_MAX_NAME}: {name[:40]}...")
    for label in name.split("."):
        if not label:
            raise Invalid(f"host {host!r} has an empty label")
        if len(label) > 63:
            raise Invalid(f"host label of {len(label)} bytes is longer than 63: {label[:40]}...")
        if not _LABEL.fullmatch(label):
            raise Invalid(f"host {host!r} is not a host name")


def _unix_path(text: str) -> str:
    if not text or text == "@":
        raise Invalid("the path after unix: is empty")
    if "\0" in text:
        raise Invalid(f"path {text!r} contains a NUL byte")
    size = len(os.fsencode(text))
    if size > _MAX_UNIX_PATH:
        raise Invalid(f"path of {size} bytes is longer than {_MAX_UNIX_PATH}, the most a unix socket can have")
    return "\0" + text[1:] if text.startswith("@") else text
