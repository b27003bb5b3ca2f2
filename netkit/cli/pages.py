"""The pages of help: what ``--help`` and ``netkit help`` show, and what man pages hold."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from typing import Any, NamedTuple, Protocol

import click

from netkit.cli.rules import Rule, sentences
from netkit.core.errors import Exit
from netkit.output.console import STDOUT, terminal_size

Pairs = Sequence[tuple[str, str]]
"""Terms with their meanings."""

Summaries = Sequence[tuple[str, str, str]]
"""Sections, names and summaries of commands."""

HELP_WIDTH = 80
PAGE_WIDTH = 78
_NARROWEST = 40  # columns; a terminal that has less folds lines itself
_INDENT = 5
_MEANING_WIDTH = 45  # columns that a long meaning has at least
_WORDS = re.compile(r"""(?:'[^']*'|"[^"]*"|[^ ])+""")  # of a command line
_GOES_ON = " \\"
_NAME_WIDTH = 10  # columns of a command's name
_COMMAND_SECTIONS = ("Talk", "Serve", "Look", "Bytes", "More")
_FIRST = ("connect", "listen", "portcheck", "resolve")  # what people look for most, each first in its section
_OPTION_SECTIONS = ("Checking", "Request", "Addresses", "Serving", "Data", "Ending", "Time", "TLS", "Output")


class Terms(NamedTuple):
    """Terms and what each means, maybe under a heading. ``macro`` is mdoc's for a term; Fl is any words of usage."""

    pairs: Pairs
    macro: str = ""
    heading: str = ""


class Section(NamedTuple):
    """A heading over paragraphs and terms."""

    title: str
    blocks: Sequence[str | Terms]

    def term_width(self, width: int = PAGE_WIDTH) -> int:
        """The columns for terms on a page of this ``width``, the same in the whole section."""
        pairs = [pair for block in self.blocks if isinstance(block, Terms) for pair in block.pairs]
        return _term_width(pairs, width - _INDENT)


class Page(NamedTuple):
    """A man page before it is mdoc or text; the ``see`` are names of other pages."""

    command: str
    summary: str
    words: str
    sections: Sequence[Section]
    see: Sequence[str]

    @property
    def name(self) -> str:
        """The name of the page: netkit-connect."""
        return self.command.replace(" ", "-")


class Described(Protocol):
    """What a page needs to know of a command."""

    name: str | None
    help: str | None
    words: str
    examples: Sequence[tuple[str, str]]
    params: list[click.Parameter]
    rules: Sequence[Rule]


_SUMMARY = "talk TCP, UDP and unix sockets from the shell"

_EXAMPLES = (
    ("netkit connect example.org 80", "join stdin and stdout to a TCP port"),
    ("netkit listen :9000 > file", "accept one connection, save what it sends"),
    ("netkit portcheck db:5432 --wait 60s", "wait until a port is open"),
    ("netkit echo 0 -- make test", "run a server while a command runs"),
)

_OVERVIEW_EXAMPLES = _EXAMPLES[:3]

_DESCRIPTION = (
    "netkit connects the shell to TCP, UDP and unix sockets, as a client and as a server. Exit status 0 means that "
    "every byte of a conversation was delivered. Every failure is one line, and has an exit status of its own. UDP has "
    "no acknowledgements: there 0 means that the system took every datagram and that no error came back.",
    "Standard output has only what the peer sent, or the answer. Messages are single lines on standard error. A client "
    "prints none unless something failed, and a server prints where it listens. With -v they print what happens, with "
    "-q nothing at all. On a terminal, control bytes from a peer are made visible.",
    "An input that cannot be read is exit status 26. Only if standard input is a directory, Python itself does not "
    "start: it prints an error, and the exit status is 1.",
)

_OPTIONS = (
    ("-h, --help", "Show the commands; after a COMMAND, its options."),
    ("--version", "Print the version."),
)

ADDRESSES = Section(
    "ADDRESSES",
    [
        Terms(
            (
                ("HOST PORT, HOST:PORT", "A port of a host. A server listens on every address of the host."),
                ("[::1]:80, ::1 80", "An IPv6 address, with its zone if it needs one: fe80::1%eth0."),
                ("PORT", "Servers only: this machine, on 127.0.0.1 and ::1."),
                (":PORT", "A client connects to this machine; a server listens on every interface, IPv4 and IPv6."),
                ("unix:PATH", "A unix socket. A server creates it for its own user only, with mode 0600."),
                (
                    "unix:@NAME",
                    "An abstract unix socket, on Linux. A server accepts clients of its own user and of root.",
                ),
                ("tls:ADDRESS", "ADDRESS over TLS, as with --tls."),
                ("udp:ADDRESS", "A conversation in datagrams, for connect and listen."),
            ),
            "Fl",
        ),
        "A port is a decimal number up to 65535, or the name of a service. With port 0 a server gets a free port from "
        "the system, the same for IPv4 and IPv6.",
    ],
)

_VALUES = (
    ("D", "A duration: 500ms, 2s, 1.5, 1m, 1h or 30d. A bare number is seconds."),
    ("N", "A whole number, 1 or more."),
    ("SIZE", "Bytes, or bytes per second: 1500, 64K, 1M or 2G, in powers of 1024."),
    ("TEXT", r"Text in which \n, \r, \t, \0, \\ and \xNN stand for bytes."),
    ("HEX", "Bytes as pairs of hex digits, with spaces between bytes if wanted."),
)

VALUES = Section("VALUES", [Terms(_VALUES, "Fl")])

_EXIT_CODES = {**{str(int(code)): code.meaning for code in Exit}, "128+n": Exit.SIGNAL.meaning}
del _EXIT_CODES[str(int(Exit.SIGNAL))]
EXIT_STATUS = Section("EXIT STATUS", [Terms(list(_EXIT_CODES.items()))])

_ENVIRONMENT = (
    ("NETKIT_DEBUG", "If set, a failure also prints its traceback."),
    (
        "NETKIT_PAGER, MANPAGER, PAGER",
        "The pager for help on a terminal: the first of these that is set, less if none is. With cat, or an empty "
        "value, no pager is used.",
    ),
    ("NO_COLOR", "If set and not empty, nothing is coloured, unless --color says otherwise."),
    ("FORCE_COLOR", "Has no effect on a pipe or a file: use --color always. On a terminal NO_COLOR overrides it."),
    ("TERM", "If dumb or unknown, a terminal gets no escape sequences: nothing is coloured, and nothing moves."),
)

_FORMAT = (
    "FORMAT is one word: typed fields, 'u16:port u32le:seq ip', or codes of Python's struct, '!HIB'. If any part of it "
    "is a field, and it has no mark in front, all parts are fields: ip and hex are fields, !ip and !hex are codes. "
    "Without a mark, codes are in network order.",
    Terms(
        (
            ("u8 u16 u32 u64", "Unsigned integers of that many bits."),
            ("i8 i16 i32 i64", "Signed integers."),
            ("f32 f64", "Floating-point numbers."),
            ("ip ip6 mac", "Addresses: 192.0.2.1, 2001:db8::1, 02:00:5e:10:00:01."),
            ("str, str8", "TEXT of any length, or padded with NULs to 8 bytes."),
            ("hex, hex8", "Any number of bytes in hex, or 8 bytes."),
            ("TYPEle", "Any type in little-endian order."),
            ("TYPE:NAME", "A name for the field, used as its key in JSON."),
        ),
        "Ic",
        "Fields",
    ),
    Terms(
        (
            ("b h i l q", "Signed integers of 1, 2, 4, 4 and 8 bytes; B H I L Q are unsigned."),
            ("e f d", "Floating-point numbers of 2, 4 and 8 bytes."),
            ("? c", "? is false or true (0 or 1); c is one byte as TEXT."),
            ("8s 8p", "TEXT padded with NULs to 8 bytes; in p the first byte is the length of the rest."),
            ("x", "A byte of padding, without a value."),
            ("n N P", "Sizes and pointers of this machine, only after @."),
            ("4H", "A count means that many values; with s and p it means bytes."),
            (
                "! > < = @",
                "A mark before all codes: network, big-endian, little-endian, native, and native aligned order.",
            ),
        ),
        "Ic",
        "Codes",
    ),
)

_FOR_COMMAND = (
    "COMMAND starts when the server is ready, and gets the server's standard input. When COMMAND ends, the server "
    "stops and exits with its exit code. If the server stops first, as by --until, it waits for COMMAND; --for ends "
    "COMMAND. If no standard descriptor of COMMAND is a terminal, COMMAND gets a process group of its own, and the "
    "whole group is ended with it. Its environment says where to connect:",
    Terms(
        (
            ("NETKIT_HOST", "The IP address; 127.0.0.1 or ::1 if the server listens on every interface."),
            ("NETKIT_PORT", "The port."),
            ("NETKIT_ADDRESS", "Both in one word, or unix:PATH, as netkit connect takes it."),
        ),
        "Ev",
    ),
)


def overview_page(commands: Summaries, topics: Pairs) -> Page:
    """The page of netkit itself; ``topics`` are what shows other chapters, and what they are about."""
    return Page(
        command="netkit",
        summary=_SUMMARY,
        words="COMMAND [OPTIONS] ...",
        sections=(
            Section("DESCRIPTION", _DESCRIPTION),
            Section("COMMANDS", [Terms(pairs, "Ic", title) for title, pairs in _command_sections(commands)]),
            Section("OPTIONS", [Terms(_OPTIONS, "Fl")]),
            ADDRESSES,
            VALUES,
            Section("TOPICS", [Terms(topics, "Ic")]),
            Section("ENVIRONMENT", [Terms(_ENVIRONMENT, "Ev")]),
            EXIT_STATUS,
            Section("EXAMPLES", [Terms(_EXAMPLES, "Ic")]),
        ),
        see=[f"netkit-{name}" for _, name, _ in commands],
    )


def command_page(command: Described, name: str, summary: str) -> Page:
    """The page of a command."""
    sections = [
        Section("DESCRIPTION", _paragraphs(command)),
        Section("OPTIONS", [Terms(pairs, "Fl", title) for title, pairs in _option_sections(command, command.rules)]),
    ]
    if "FORMAT" in command.words:
        sections.append(Section("FORMAT", _FORMAT))
    if any("--port-file" in option.opts for option in command.params):
        sections.append(Section("ENVIRONMENT", _FOR_COMMAND))
    sections += [EXIT_STATUS, Section("EXAMPLES", [Terms(command.examples, "Ic")])]
    return Page(f"netkit {name}", summary, f"[OPTIONS] {command.words}".strip(), sections, see=["netkit"])


def _paragraphs(command: Described) -> list[str]:
    return [" ".join(part.split()) for part in (command.help or "").split("\n\n")]


def _command_sections(commands: Summaries) -> Iterator[tuple[str, Pairs]]:
    """Yield the headings of commands with their names and summaries."""
    ordered = sorted(commands, key=lambda command: (command[1] not in _FIRST, command[1]))
    for title in sorted({section for section, _, _ in commands}, key=_COMMAND_SECTIONS.index):
        yield title, [(name, summary) for section, name, summary in ordered if section == title]


def _option_sections(command: Described, rules: Sequence[Rule] = ()) -> Iterator[tuple[str, Pairs]]:
    """Yield the headings of options with how each is typed, what it does, and what the rules say of it."""
    options: list[Any] = [param for param in command.params if isinstance(param, click.Option)]
    for title in sorted({option.section for option in options}, key=_OPTION_SECTIONS.index):
        shown = [option for option in options if option.section == title]
        yield title, [(_typed(each), f"{each.help} {sentences(rules, each.opts)}".strip()) for each in shown]


def _typed(option: Any) -> str:
    """How an option is typed: ``-w, --connect-timeout D``."""
    names = ", ".join(sorted(option.opts, key=len))
    return f"{names} {option.type.name}" if option.takes_value else names


def columns(most: int) -> int:
    """How wide lines for stdout may be: ``most``, which is 80 or less, or as wide as a terminal that is narrower."""
    return max(_NARROWEST, min(most, terminal_size(STDOUT).columns))


def overview(commands: Summaries) -> str:
    """What ``netkit`` alone shows: one screen, its commands in two columns where there is room for them."""
    width = columns(HELP_WIDTH)
    lines = [*wrapped(f"netkit: {_SUMMARY}", 0, width), "", *_table(_OVERVIEW_EXAMPLES, 2, width), ""]
    lines.append("Usage: netkit COMMAND [OPTIONS] ...")
    half = HELP_WIDTH // 2 + 1
    two = width == HELP_WIDTH
    parts = [
        [title, *_table(pairs, 2, half - 1 if two else width, _NAME_WIDTH)]
        for title, pairs in _command_sections(commands)
    ]
    if two:
        cuts = ((list(chain(*parts[:cut])), list(chain(*parts[cut:]))) for cut in range(len(parts)))
        left, right = min(cuts, key=lambda sides: max(map(len, sides)))
        lines += [f"{one:{half}}{other}".rstrip() for one, other in zip_longest(left, right, fillvalue="")]
    else:
        lines += chain(*parts)
    more = "-v says more, -q nothing, -h helps, --version.  netkit help COMMAND, man netkit"
    return "\n".join([*lines, "", *wrapped(more, 0, width)])


def help_page(command: Described, path: str) -> str:
    """What ``COMMAND --help`` shows: a sentence, examples, and the options under their headings."""
    width = columns(HELP_WIDTH)
    options = list(_option_sections(command))
    term_width = _term_width([pair for _, pairs in options for pair in pairs], width - 2)
    lines = [*wrapped(_paragraphs(command)[0], 0, width), "", *_table(command.examples, 2, width), ""]
    lines += wrapped(f"Usage: {path} [OPTIONS] {command.words}", 0, width)
    for title, pairs in options:
        lines += ["", title, *_table(pairs, 2, width, term_width)]
    more = f"Exit codes and more: netkit help {command.name}.  Addresses: netkit help addresses."
    return "\n".join([*lines, "", *wrapped(more, 0, width)])


def to_text(page: Page, width: int = PAGE_WIDTH) -> str:
    """A page as plain text."""
    name = wrapped(f"{page.name} - {page.summary}", _INDENT, width)
    synopsis = wrapped(f"{page.command} {page.words}", _INDENT, width)
    see = wrapped(", ".join(f"{name}(1)" for name in page.see), _INDENT, width)
    lines = ["NAME", *name, "", "SYNOPSIS", *synopsis, *_section_lines(page.sections, width), "", "SEE ALSO", *see]
    return "\n".join(lines)


def topic_text(sections: Sequence[Section], width: int = PAGE_WIDTH) -> str:
    """A chapter as plain text."""
    return "\n".join(_section_lines(sections, width)[1:])


def _section_lines(sections: Sequence[Section], width: int) -> list[str]:
    lines = []
    for section in sections:
        lines += ["", section.title]
        for number, block in enumerate(section.blocks):
            lines += [""] if number else []
            if isinstance(block, str):
                lines += wrapped(block, _INDENT, width)
            else:
                lines += [f"   {block.heading}"] if block.heading else []
                lines += _table(block.pairs, _INDENT, width, section.term_width(width))
    return lines


def _table(pairs: Pairs, indent: int, width: int, term_width: int | None = None) -> list[str]:
    """Terms with their meanings beside them; below those that are too wide."""
    if term_width is None:
        term_width = _term_width(pairs, width - indent)
    lines = []
    for term, meaning in pairs:
        beside = wrapped(meaning, indent + term_width + 2, width)
        if len(term) <= term_width:
            beside[0] = f"{'':{indent}}{term:{term_width}}  {beside[0].lstrip()}"
        else:
            lines += _command(term, indent, width)
        lines += beside
    return lines


def _command(term: str, indent: int, width: int) -> list[str]:
    """What is typed, on several lines if it must, as a shell takes them: it is broken at blanks outside of quotes."""
    if indent + len(term) <= width:
        return [" " * indent + term]
    lines: list[str] = []
    for word in _WORDS.findall(term):
        if lines and len(lines[-1]) + 1 + len(word) + len(_GOES_ON) <= width:
            lines[-1] += " " + word
        else:
            lines.append(" " * (indent + 2 if lines else indent) + word)
    return [line + _GOES_ON for line in lines[:-1]] + lines[-1:]


def _term_width(pairs: Pairs, width: int) -> int:
    """The width of the widest term that leaves the meanings enough of ``width``."""
    room = width - 2 - min(_MEANING_WIDTH, max((len(meaning) for _, meaning in pairs), default=0))
    return max((len(term) for term, _ in pairs if len(term) <= room), default=4)


def wrapped(text: str, indent: int, width: int) -> list[str]:
    """Fold text into lines of at most ``width``, each after ``indent`` blanks."""
    margin = " " * indent
    return textwrap.wrap(
        text, width, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False, break_long_words=False
    )
