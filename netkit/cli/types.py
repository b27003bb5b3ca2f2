"""How words become values: the types of options and arguments. What means nothing is a usage error."""

import os
import re
from typing import TYPE_CHECKING, Any

import click

from netkit.core.errors import Invalid

if TYPE_CHECKING:
    from netkit.core.access import Network
    from netkit.services.pack.framing import Prefix

_TEN_YEARS = 10 * 365 * 24 * 3600.0

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ms|s|m|h|)", re.ASCII)

_SIZE = re.compile(r"([1-9][0-9]{0,11})([KMG]?)")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


if TYPE_CHECKING:
    Parameter = click.ParamType[Any]  # generic in click's newest versions alone
else:
    Parameter = click.ParamType


class Duration(Parameter):
    """``500ms``, ``2s``, ``1.5``, ``1m``, ``1h``; bare numbers are seconds. A float of seconds, at most ten years."""

    name = "D"

    def __init__(self, *, zero: bool = False) -> None:
        self.zero = zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        match = _DURATION.fullmatch(value)
        if not match:
            self.fail(f"{value!r} is not a duration, such as 500ms, 2s, 1.5 or 1m", param, ctx)
        seconds = float(match[1]) * _UNITS[match[2]]
        if seconds > _TEN_YEARS:
            self.fail(f"{value!r} is longer than ten years", param, ctx)
        if not seconds and not self.zero:
            self.fail(f"{value!r} would leave no time at all", param, ctx)
        return seconds


class Count(Parameter):
    """A whole number in ASCII digits, from 1 on, or from 0."""

    name = "N"

    def __init__(self, *, zero: bool = False, most: int = 10**18 - 1) -> None:
        self.zero = zero
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        if isinstance(value, int):
            return value
        if not re.fullmatch(r"[1-9][0-9]{0,17}", value) and not (self.zero and value == "0"):
            self.fail(f"{value!r} is not a whole number from {0 if self.zero else 1} on", param, ctx)
        if int(value) > self.most:
            self.fail(f"{value!r} is more than {self.most}", param, ctx)
        return int(value)


class CountOrAny(Count):
    """A whole number from 1 on, or ``any``."""

    name = "N|any"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or ``any`` as it is."""
        return value if value == "any" else super().convert(value, param, ctx)


class OneOf(Parameter):
    """One of a few words."""

    def __init__(self, *words: str, name: str | None = None) -> None:
        self.words = words
        self.name = name or "|".join(words)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the word."""
        if value not in self.words:
            self.fail(f"{value!r} is none of {', '.join(self.words)}", param, ctx)
        return str(value)


class Size(Parameter):
    """Bytes: ``1500``, ``64K``, ``1M`` or ``2G``, in powers of 1024; not 0."""

    name = "SIZE"

    def __init__(self, *, most: int | None = None) -> None:
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes."""
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(value)
        if not match:
            self.fail(f"{value!r} is not a size, such as 1500, 64K, 1M or 2G", param, ctx)
        size = int(match[1]) * _SIZES[match[2]]
        if self.most is not None and size > self.most:
            self.fail(f"{value!r} is more than {self.most}", param, ctx)
        return size


class Length(Parameter):
    """The length in front of a record: ``u8``, ``u16`` or ``u32``, with ``le`` behind it if wanted."""

    name = "u8|u16|u32[le]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Prefix":
        """Return the prefix."""
        from netkit.services.pack.framing import parse_prefix

        try:
            return parse_prefix(value)
        except Invalid as error:
            self.fail(str(error), param, ctx)


class Text(Parameter):
    """Bytes, with ``\\n \\r \\t \\0 \\\\ \\xNN`` understood."""

    name = "TEXT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Return the bytes."""
        from netkit.services.text import parse

        try:
            return parse(value)
        except Invalid as error:
            self.fail(str(error), param, ctx)


class Hex(Parameter):
    """Bytes in hex digits, with spaces between bytes if wanted."""

    name = "HEX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Return the bytes."""
        try:
            return bytes.fromhex(value)
        except ValueError:
            self.fail(f"{value!r} is not pairs of hex digits", param, ctx)


class Words(Parameter):
    """A program and its arguments, split as a shell splits them; a tuple of words."""

    name = "CMD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the words."""
        import shlex

        if isinstance(value, tuple):
            return value
        try:
            words = tuple(shlex.split(value))
        except ValueError as error:
            self.fail(f"{value!r} cannot be split into words: {str(error).lower()}", param, ctx)
        if not words or not words[0]:
            self.fail("there is no program to run", param, ctx)
        return words


class Line(Parameter):
    """A command line for the shell."""

    name = "CMD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it."""
        if not value.strip():
            self.fail("there is no program to run", param, ctx)
        return str(value)


class Field(Parameter):
    """A field of an HTTP message: ``NAME: VALUE`` (RFC 9110, section 5)."""

    name = "FIELD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, bytes]:
        """Return name and value."""
        if isinstance(value, tuple):
            return value
        name, colon, rest = value.partition(":")
        if not colon or not _TOKEN.fullmatch(name):  # of which nothing is said: it may be a secret
            self.fail("not a field, such as 'Accept: text/html'", param, ctx)
        if any(c != "\t" and (c < " " or c == "\x7f") for c in rest):
            self.fail(f"the value of {name!r} contains a control character", param, ctx)
        return name, os.fsencode(rest.strip(" \t"))


class Verb(Parameter):
    """The method of an HTTP request: a token, such as PUT (RFC 9110, section 9)."""

    name = "METHOD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it as it is: methods are case-sensitive."""
        if not _TOKEN.fullmatch(value):
            self.fail(f"{value!r} is not a method, such as PUT", param, ctx)
        if value == "CONNECT":
            self.fail("CONNECT opens a tunnel, and fetches nothing", param, ctx)
        return str(value)


class Path(Parameter):
    """A file's path."""

    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the path."""
        if not value:
            self.fail("the path is empty", param, ctx)
        return str(value)


class HostName(Parameter):
    """The name of a host, or its address."""

    name = "NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        from netkit.core.address import check_host

        try:
            return check_host(value)
        except Invalid as error:
            self.fail(str(error), param, ctx)


class Protocols(Parameter):
    """Names of protocols with commas between them, as ALPN has them (RFC 7301); a tuple."""

    name = "NAME,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the names."""
        if isinstance(value, tuple):
            return value
        names = tuple(value.split(","))
        if not all(name.isascii() and name.isprintable() and 0 < len(name) < 256 for name in names):
            self.fail(f"{value!r} is not names of 1 to 255 ASCII characters, such as h2,http/1.1", param, ctx)
        return names


class Source(Parameter):
    """``ADDR``, ``ADDR:PORT`` or ``:PORT`` of this machine."""

    name = "ADDR[:PORT]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Return address and port; "" and 0 are any."""
        from netkit.core.address import parse_source

        try:
            return parse_source(value)
        except Invalid as error:
            self.fail(str(error), param, ctx)


class Pattern(Parameter):
    """A regular expression of Python's, over bytes; ^ and $ match at lines."""

    name = "REGEX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "re.Pattern[bytes]":
        """Return the compiled pattern."""
        try:
            return re.compile(os.fsencode(value), re.MULTILINE)
        except (re.error, OverflowError, RecursionError) as error:
            self.fail(f"{value!r} is not a regular expression: {error}", param, ctx)


class Cidr(Parameter):
    """An address or a network, ``10.0.0.0/8``."""

    name = "CIDR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Network":
        """Return the network."""
        from netkit.core.access import parse_network

        try:
            return parse_network(value)
        except Invalid as error:
            self.fail(str(error), param, ctx)


class Group(Parameter):
    """A multicast address, with ``%INTERFACE`` if wanted."""

    name = "GROUP"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it as it is."""
        from netkit.core.udp_server import parse_group

        try:
            return parse_group(value)
        except Invalid as error:
            self.fail(str(error), param, ctx)


class Mode(Parameter):
    """The permission bits of a file, in octal: ``660``."""

    name = "MODE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bits."""
        if not re.fullmatch(r"0?[0-7]{3}", value):
            self.fail(f"{value!r} is not a mode such as 600 or 660", param, ctx)
        return int(value, 8)
