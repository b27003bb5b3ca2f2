"""One grammar for addresses, wherever one is taken. Pure: nothing is looked up but the port of a service name.

Words are read from the left. A word that carries its port, or is ``unix:...``, or for a server is only digits,
is complete; any other takes the next word as its port.
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
_MAX_NAME = 253  # characters that 255 bytes on the wire leave for a name: RFC 1035, section 2.3.4
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?")
_RANGE = re.compile(r"([0-9]+)-(.*)", re.DOTALL)
_ZONE = re.compile(r"[^\s%/:\[\]]+", re.ASCII)
_INTERFACE = re.compile(r"(?!\.{1,2}$)[^\s/:\0]+")  # dev_valid_name of Linux
_MAX_INTERFACE = 15  # bytes: netdevice(7), IFNAMSIZ with a NUL; the system ignores the rest of a longer one
_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_SERVICE = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9+._-]*")
_LAST_LABEL_IS_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?$")


class Endpoint(NamedTuple):
    """Where to dial or to listen; ``str()`` of it parses back to the same (but for hosts named unix, tls or udp).

    ``host`` is a name, an address without brackets, "" for ``:PORT`` and None for a bare PORT. ``path`` is set for unix
    sockets alone; a path that begins with NUL is abstract. ``udp`` is a conversation in datagrams.
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
    """Read one address from the left; return it with the words that follow. With ``udp`` it may be a ``udp:`` one."""
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
        raise Invalid(f"address {first!r} is a path: write unix:{word} for a unix socket")
    if word.startswith("unix:"):
        return Endpoint(path=_unix_path(word.removeprefix("unix:")), tls=tls, udp=is_udp), rest
    if role == "server" and is_digits(word):
        return Endpoint(None, parse_port(word, role), tls=tls, udp=is_udp), rest
    is_port = is_digits(word) and not (rest and (is_digits(rest[0]) or len(word) > 5))
    host, port = take_host(word, rest, "address", is_port=is_port)
    return Endpoint(host, parse_port(port, role), tls=tls, udp=is_udp), rest


def take_host(word: str, rest: list[str], what: str, *, is_port: bool) -> tuple[str, str]:
    """The host of a word, checked, and its port, which may be taken from the ``rest``; ``is_port`` if it has no host.

    ``what`` the word is, messages say. Raises Invalid.
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
    """An IPv6 address with a port behind it as it is to be written; empty for any other word."""
    host, _, port = word.rpartition(":")
    return f"[{host}]:{port}" if is_digits(port) and family_of(host) == socket.AF_INET6 else ""


def _with_port(word: str, what: str) -> str:
    """How a word is to be written that has no port, or that has one which its colons hide."""
    if bracketed := _bracketed(word):
        return f"write {bracketed} if {word.rpartition(':')[2]} is the port"
    ports = "PORTS" if what == "target" else "PORT"
    return f"HOST {ports} or HOST:{ports}"


def parse_ports(text: str, protocol: Protocol = "tcp") -> list[int]:
    """Read a list of ports and ranges, ``22,80,8000-8010``, each port once; service names are ports too."""
    ports: list[int] = []
    listed = bytearray(65536)  # 1 for each port that has its place: ranges may overlap any number of times
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
    """Read an address that is one word, as ``str(Endpoint)`` writes it."""
    return take([text], role, udp=udp)[0]


def parse_port(text: str, role: Role = "client", protocol: Protocol | None = None) -> int:
    """Read a port: ASCII decimal digits without leading zeros, or a service name; 0 is a server's alone."""
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
    """Read ``ADDR``, ``ADDR:PORT`` or ``:PORT`` of this machine, literals alone; port 0 is any."""
    host, port = split(text)
    if host:
        host = check_host(host)
        if family_of(host) is None:
            raise Invalid(f"source {text!r} is not an IP address")
    elif port is None:
        raise Invalid("the source is empty")
    return host, 0 if port is None else parse_port(port, "server")


def parse_interface(text: str) -> str:
    """Read the name of a network interface, such as eth0, whether there is one or not. Raises Invalid."""
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
    """The endpoint of a socket address, as getsockname, getpeername and accept have it; IPv4 within IPv6 is IPv4."""
    if not isinstance(address, tuple):  # a unix socket's, bytes if it is abstract
        return Endpoint(path=os.fsdecode(address))
    host, port = address[:2]
    if "." in host:
        host = host.removeprefix("::ffff:")  # RFC 4291, section 2.5.5.2
    scope = address[3] if len(address) == 4 else 0
    if scope and "%" not in host:
        host += "%" + interface_name(scope)
    return Endpoint(host, port)


def interface_name(index: int) -> str:
    """The name of an interface, or its number if it has gone."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)


def is_digits(text: str) -> bool:
    """Whether a text is ASCII decimal digits alone."""
    return text.isascii() and text.isdigit()


def without_tls(word: str, what: str) -> tuple[str, bool]:
    """A word without ``tls:`` in front, and whether it had that; ``what`` it is for the message of Invalid."""
    rest = word.removeprefix("tls:")
    if rest.startswith("tls:"):
        raise Invalid(f"{what} {word!r} says tls: twice")
    return rest, rest != word


def split(word: str) -> tuple[str, str | None]:
    """Split a word into host and port text; None where it carries no port."""
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
    """Check a host, and return it as resolvers take it: a name in A-labels. Raises Invalid.

    ``<broadcast>`` is the address that Python's socket module calls so.
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
    """Convert a name by IDNA 2008: only full stops separate labels, and no other digit becomes an ASCII one."""
    import unicodedata

    import idna

    if len(host) > _MAX_NAME:  # its A-labels are longer still, and take their time
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
    """The IPv4 address that inet_aton(3) makes of another spelling; None if it is one of today, or none."""
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
