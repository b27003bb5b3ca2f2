"""Parsers of option values, which are plain functions that raise ValueError, and the click types around them."""

import os
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]  # generic only in new versions of click
else:
    ParamType = click.ParamType

_TEN_YEARS = 10 * 365 * 24 * 3600.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ms|s|m|h|d|)", re.ASCII)
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SIZE = re.compile(r"([1-9][0-9]{0,11})([KMG]?)")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def imported(path: str) -> Any:
    """The object ``package.module.name``. Its module is imported if need be."""
    module, _, name = path.rpartition(".")
    return getattr(__import__(module, fromlist=[name]), name)


class Parsed(ParamType):
    """A click type around a parser, whose ValueError becomes the message. A default that is not a str is kept.

    ``parse`` may be the path of a parser, which is imported when a value is typed.
    """

    def __init__(self, name: str, parse: Callable[[str], Any] | str) -> None:
        self.name = name
        self.parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        parse = imported(self.parse) if isinstance(self.parse, str) else self.parse
        try:
            return parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def parse_duration(text: str, *, zero: bool = False) -> float:
    """A duration in seconds, at most ten years: ``500ms``, ``2s``, ``1.5`` (seconds), ``1m``, ``1h``, ``30d``."""
    match = _DURATION.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a duration, such as 500ms, 2s, 1.5 or 1m")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > _TEN_YEARS:
        raise ValueError(f"{text!r} is longer than ten years")
    if not seconds and not zero:
        raise ValueError(f"{text!r} would leave no time at all")
    return seconds


def parse_count(text: str, *, zero: bool = False, most: int = 10**18 - 1) -> int:
    """A whole number in ASCII digits from 1, or 0, to ``most``."""
    if not re.fullmatch(r"[1-9][0-9]{0,17}", text) and not (zero and text == "0"):
        raise ValueError(f"{text!r} is not a whole number from {0 if zero else 1} on")
    if int(text) > most:
        raise ValueError(f"{text!r} is more than {most}")
    return int(text)


def parse_count_or_any(text: str) -> int | str:
    """A whole number from 1 on, or ``any``."""
    return text if text == "any" else parse_count(text)


def parse_size(text: str, *, most: int | None = None) -> int:
    """A size in bytes, not 0: ``1500``, ``64K``, ``1M`` or ``2G`` (powers of 1024)."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a size, such as 1500, 64K, 1M or 2G")
    size = int(match[1]) * _SIZES[match[2]]
    if most is not None and size > most:
        raise ValueError(f"{text!r} is more than {most}")
    return size


def parse_choice(text: str, words: tuple[str, ...]) -> str:
    """One of ``words``."""
    if text not in words:
        raise ValueError(f"{text!r} is none of {', '.join(words)}")
    return text


def parse_hex(text: str) -> bytes:
    """Bytes in hex digits, with optional spaces between bytes."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"{text!r} is not pairs of hex digits") from None


def parse_octets(text: str) -> bytes:
    """Bytes in hex digits, or as a Python literal, with or without its ``b''``: ``b'\\x00P'``."""
    if not text.startswith(("b'", 'b"', "\\x")):
        return parse_hex(text)
    import ast
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of an unknown escape, which Python takes as it stands, with a warning
            return bytes(ast.literal_eval(text if text.startswith("b") else f"b'{text}'"))
    except (SyntaxError, TypeError, ValueError, Warning):
        raise ValueError(f"{text!r} is neither pairs of hex digits nor bytes as Python shows them") from None


def parse_command(text: str) -> tuple[str, ...]:
    """A program and its arguments, split as a shell splits them."""
    import shlex

    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"{text!r} cannot be split into words: {str(error).lower()}") from None
    if not words or not words[0]:
        raise ValueError("there is no program to run")
    return words


def parse_shell_command(text: str) -> str:
    """A command line for the shell."""
    if not text.strip():
        raise ValueError("there is no program to run")
    return text


def parse_field(text: str) -> tuple[str, bytes]:
    """Name and value of a field of an HTTP message: ``NAME: VALUE`` (RFC 9110, section 5)."""
    name, colon, rest = text.partition(":")
    if not colon or not _TOKEN.fullmatch(name):  # the message does not show it: it may be a secret
        raise ValueError("not a field, such as 'Accept: text/html'")
    if any(c != "\t" and (c < " " or c == "\x7f") for c in rest):
        raise ValueError(f"the value of {name!r} contains a control character")
    return name, os.fsencode(rest.strip(" \t"))


def parse_method(text: str) -> str:
    """The method of an HTTP request: a case-sensitive token, such as PUT (RFC 9110, section 9)."""
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"{text!r} is not a method, such as PUT")
    if text == "CONNECT":
        raise ValueError("CONNECT opens a tunnel, and fetches nothing")
    return text


def parse_statuses(text: str) -> tuple[int, ...]:
    """HTTP statuses and classes of them, separated by commas: ``204,3xx`` (RFC 9110, section 15)."""
    codes = text.split(",")
    if not all(re.fullmatch(r"[2-5](?:[0-9][0-9]|xx)", code) for code in codes):
        raise ValueError(f"{text!r} is not statuses from 200 to 599, such as 200,204 or 2xx")
    return tuple(status for status in range(200, 600) if {str(status), f"{status // 100}xx"} & {*codes})


def parse_path(text: str) -> str:
    """A file's path."""
    if not text:
        raise ValueError("the path is empty")
    return text


def parse_alpn(text: str) -> tuple[str, ...]:
    """Names of ALPN protocols (RFC 7301), separated by commas."""
    names = tuple(text.split(","))
    if not all(name.isascii() and name.isprintable() and 0 < len(name) < 256 for name in names):
        raise ValueError(f"{text!r} is not names of 1 to 255 ASCII characters, such as h2,http/1.1")
    return names


def parse_fingerprint(text: str) -> str:
    """The SHA-256 of a certificate: ``sha256:`` and 64 hex digits, with or without colons as openssl prints them."""
    kind, _, digits = text.partition(":")
    digits = digits.replace(":", "").lower()
    if kind.lower() != "sha256" or not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError(f"{text!r} is not sha256: and 64 hex digits, with or without colons")
    return f"sha256:{digits}"


def parse_mode(text: str) -> int:
    """The permission bits of a file, in octal: ``660``."""
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError(f"{text!r} is not a mode such as 600 or 660")
    return int(text, 8)


def count(*, zero: bool = False, most: int = 10**18 - 1) -> Parsed:
    """A type for whole numbers from 1, or 0, to ``most``."""
    return Parsed("N", partial(parse_count, zero=zero, most=most))


def size(*, most: int | None = None) -> Parsed:
    """A type for sizes in bytes, up to ``most``."""
    return Parsed("SIZE", partial(parse_size, most=most))


def text_beside(option: str, *, stdin: bool = False) -> Parsed:
    """A type for the text of ``option``, which has a sibling ``option``-file; see ``parse_beside``."""
    return Parsed("TEXT", lambda word: imported("netkit.services.text.parse_beside")(option, word, stdin=stdin))


def word(name: str) -> Parsed:
    """A type for any text. ``name`` is its name in help."""
    return Parsed(name, str)


def choice(*words: str, name: str | None = None) -> Parsed:
    """A type for one of ``words``. ``name`` is its name in help."""
    return Parsed(name or "|".join(words), partial(parse_choice, words=words))


ALPN = Parsed("NAME,...", parse_alpn)
CIDR = Parsed("CIDR", "netkit.core.access.parse_network")
COMMAND = Parsed("CMD", parse_command)
COUNT = count()
COUNT_OR_ANY = Parsed("N|any", parse_count_or_any)
DURATION = Parsed("D", parse_duration)
DURATION_OR_ZERO = Parsed("D", partial(parse_duration, zero=True))
FIELD = Parsed("FIELD", parse_field)
FILE = Parsed("FILE", parse_path)
FINGERPRINT = Parsed("sha256:HEX", parse_fingerprint)
GROUP = Parsed("GROUP", "netkit.core.udp_server.parse_group")
HEX = Parsed("HEX", parse_hex)
HOST = Parsed("NAME", "netkit.core.address.check_host")
INTERFACE = Parsed("IF", "netkit.core.address.parse_interface")
OCTETS = Parsed("HEX", parse_octets)
METHOD = Parsed("METHOD", parse_method)
MODE = Parsed("MODE", parse_mode)
PREFIX = Parsed("u8|u16|u32[le]", "netkit.services.pack.framing.parse_prefix")
REGEX = Parsed("REGEX", "netkit.core.search.parse")
SHELL_COMMAND = Parsed("CMD", parse_shell_command)
SIZE = size()
SOURCE = Parsed("ADDR[:PORT]", "netkit.core.address.parse_source")
STATUSES = Parsed("CODE,...", parse_statuses)
TARGET = Parsed("TARGET", "netkit.core.targets.parse_rule")
TEXT = Parsed("TEXT", "netkit.services.text.parse")
TLS_VERSION = choice("1.0", "1.1", "1.2", "1.3", name="VERSION")
