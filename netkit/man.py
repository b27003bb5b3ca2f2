"""From the live command tree to ``--help`` and to man pages, as mdoc and as text.

``python -m netkit.man [FOLDER]`` writes the man pages into ``man/``, or into FOLDER.
"""

import os
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import click

from netkit import __version__
from netkit.core.errors import MEANING, Exit
from netkit.shell import Command, Option

DATE = "November 20, 2026"  # of the wording, so that pages do not age by themselves
HELP_WIDTH = 80
PAGE_WIDTH = 78
_INDENT = 5
_MEANING_WIDTH = 45  # columns that a long meaning has at least

_SUMMARY = "talk TCP, UDP and unix sockets from the shell"
_COMMAND_SECTIONS = ("Talk", "Serve", "Look", "Bytes", "More")
_OPTION_SECTIONS = ("Addresses", "Checking", "Request", "Serving", "TLS", "Ending", "Data", "Time", "Talk")

Pairs = Sequence[tuple[str, str]]  # terms and meanings
Summaries = Sequence[tuple[str, str, str]]  # sections, names and summaries of commands

_EXAMPLES: Pairs = (
    ("netkit connect example.org 80", "join stdin and stdout to a TCP port"),
    ("netkit listen :9000 > file", "take one connection, keep what it sends"),
    ("netkit echo 0 -- make test", "a server for as long as a command runs"),
    ("netkit portcheck db:5432 --wait 60s", "wait until a port is open"),
)
_DESCRIPTION = (
    "netkit joins the shell to TCP, UDP and unix sockets: it connects, it listens and it serves. When a conversation "
    "ends with exit status 0, every byte was delivered; every failure is one line and has an exit status of its own. "
    "UDP alone acknowledges nothing: there 0 means that the system took every datagram and no error had come back.",
    "Standard output carries what the peer sent, or the answer, and nothing else. What there is to say is one line on "
    "standard error: a client says nothing unless something failed, a server says where it listens. With -v they say "
    "what happens, with -q nothing at all. On a terminal, control bytes from a peer are made visible.",
)
_OPTIONS: Pairs = (
    ("-h, --help", "Show the commands; after a COMMAND, its options."),
    ("--version", "Print the version."),
)
_ADDRESSES: Pairs = (
    ("HOST PORT, HOST:PORT", "That port of a host. A server binds every address that the host's name has."),
    ("[::1]:80, ::1 80", "An IPv6 address, with its zone where it needs one: fe80::1%eth0."),
    ("PORT", "Servers alone: this machine, on 127.0.0.1 and ::1."),
    (":PORT", "A client connects to this machine; a server takes every interface, IPv4 and IPv6."),
    ("unix:PATH", "A unix socket. A server makes it for its own user alone, with mode 0600."),
    ("unix:@NAME", "An abstract unix socket, on Linux. A server takes clients of its own user and of root."),
)
_ABOUT_PORTS = (
    "A port is a number up to 65535 in decimal digits, or the name of a service. For a server port 0 is one that the "
    "system chooses, the same for IPv4 and IPv6."
)
_VALUES: Pairs = (
    ("D", "A duration: 500ms, 2s, 1.5, 1m or 1h. A bare number is seconds."),
    ("N", "A whole number from 1 on."),
    ("SIZE", "Bytes, or bytes per second: 1500, 64K, 1M or 2G, in powers of 1024."),
    ("TEXT", r"Text in which \n, \r, \t, \0, \\ and \xNN stand for bytes."),
    ("HEX", "Bytes as pairs of hex digits, with spaces between bytes if wanted."),
)
_DEBUGGING: Pairs = (("NETKIT_DEBUG", "If set, a failure shows its traceback as well."),)
_ABOUT_FORMAT = (
    "FORMAT is one word: typed fields, 'u16:port u32le:seq ip', or codes as in Python's struct, '!HIB'. If a part of "
    "it is a field and no mark is in front, all are fields: ip and hex are fields, !ip and !hex are codes. Without a "
    "mark, codes are in network order."
)
_FORMAT = (
    (
        "Fields",
        (
            ("u8 u16 u32 u64", "Whole numbers from 0 on, of so many bits."),
            ("i8 i16 i32 i64", "Whole numbers that may be negative."),
            ("f32 f64", "Floating-point numbers."),
            ("ip ip6 mac", "Addresses: 192.0.2.1, 2001:db8::1, 02:00:5e:10:00:01."),
            ("str, str8", "TEXT of any length, or filled up with NULs to 8 bytes."),
            ("hex, hex8", "Bytes in hex, any number or 8 of them."),
            ("TYPEle", "Behind any type: its octets in reverse, little-endian."),
            ("TYPE:NAME", "The name of the field, a key of what --json writes."),
        ),
    ),
    (
        "Codes",
        (
            ("b h i l q", "Whole numbers of 1, 2, 4, 4 and 8 bytes that may be negative; B H I L Q are from 0 on."),
            ("e f d", "Floating-point numbers of 2, 4 and 8 bytes."),
            ("? c", "false or true (0 or 1); one byte as TEXT."),
            ("8s 8p", "TEXT filled up with NULs to 8 bytes; in p the first byte counts those that follow."),
            ("x", "A byte of padding, without a value."),
            ("n N P", "Sizes and pointers of this machine, under @ alone."),
            ("4H", "With a count, as many values; counts of s and p are bytes."),
            (
                "! > < = @",
                "In front of all codes: network order, big-endian, little-endian, native, native and aligned.",
            ),
        ),
    ),
)
_ABOUT_COMMAND = (
    "COMMAND runs once the server is ready, with the server's standard input as its own. The server ends with it and "
    "returns its exit code. COMMAND is told where to connect:"
)
_FOR_COMMAND: Pairs = (
    ("NETKIT_HOST", "The IP address; 127.0.0.1 or ::1 if every interface is served."),
    ("NETKIT_PORT", "The port."),
    ("NETKIT_ADDRESS", "Both in one word, or unix:PATH, as netkit connect takes it."),
)


# -- a page


class Terms(NamedTuple):
    """Terms and what each means, maybe under a heading. ``macro`` is mdoc's for a term; Fl is any words of usage."""

    pairs: Pairs
    macro: str = ""
    heading: str = ""


class Section(NamedTuple):
    """A heading over paragraphs and terms."""

    title: str
    blocks: Sequence[str | Terms]

    def term_width(self) -> int:
        """Return the columns for terms, the same in the whole section."""
        pairs = [pair for block in self.blocks if isinstance(block, Terms) for pair in block.pairs]
        return _term_width(pairs, PAGE_WIDTH - _INDENT)


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


def pages() -> Iterator[Page]:
    """Yield every page, from the live tree."""
    from netkit.cli import netkit, summaries

    context = click.Context(netkit)
    commands = summaries(netkit.list_commands(context))
    yield overview_page(commands)
    for _, name, summary in commands:
        yield command_page(netkit.resolve_command(context, [name])[1], name, summary)


def overview_page(commands: Summaries) -> Page:
    """Return the page of netkit itself."""
    return Page(
        command="netkit",
        summary=_SUMMARY,
        words="COMMAND [OPTIONS] ...",
        sections=(
            Section("DESCRIPTION", _DESCRIPTION),
            Section("COMMANDS", [Terms(pairs, "Ic", title) for title, pairs in _command_sections(commands)]),
            Section("OPTIONS", [Terms(_OPTIONS, "Fl")]),
            Section("ADDRESSES", [Terms(_ADDRESSES, "Fl"), _ABOUT_PORTS]),
            Section("VALUES", [Terms(_VALUES, "Fl")]),
            Section("ENVIRONMENT", [Terms(_DEBUGGING, "Ev")]),
            _exit_status(),
            Section("EXAMPLES", [Terms(_EXAMPLES, "Ic")]),
        ),
        see=[f"netkit-{name}" for _, name, _ in commands],
    )


def command_page(command: Command, name: str, summary: str) -> Page:
    """Return the page of a command."""
    sections = [
        Section("DESCRIPTION", _paragraphs(command)),
        Section("OPTIONS", [Terms(pairs, "Fl", title) for title, pairs in _option_sections(command)]),
    ]
    if "FORMAT" in command.words:
        sections.append(Section("FORMAT", [_ABOUT_FORMAT, *(Terms(pairs, "Ic", title) for title, pairs in _FORMAT)]))
    if any("--port-file" in option.opts for option in command.params):
        sections.append(Section("ENVIRONMENT", [_ABOUT_COMMAND, Terms(_FOR_COMMAND, "Ev")]))
    sections += [_exit_status(), Section("EXAMPLES", [Terms(command.examples, "Ic")])]
    return Page(f"netkit {name}", summary, f"[OPTIONS] {command.words}".strip(), sections, see=["netkit"])


def _exit_status() -> Section:
    rows = {str(int(code)): meaning for code, meaning in MEANING.items() if code is not Exit.SIGNAL}
    rows["128+n"] = MEANING[Exit.SIGNAL]
    return Section("EXIT STATUS", [Terms(list(rows.items()))])


def _paragraphs(command: Command) -> list[str]:
    return [" ".join(part.split()) for part in (command.help or "").split("\n\n")]


def _command_sections(commands: Summaries) -> Iterator[tuple[str, Pairs]]:
    """Yield the headings of commands with their names and summaries."""
    for title in sorted({section for section, _, _ in commands}, key=_COMMAND_SECTIONS.index):
        yield title, [(name, summary) for section, name, summary in commands if section == title]


def _option_sections(command: Command) -> Iterator[tuple[str, Pairs]]:
    """Yield the headings of options with how each is typed and what it does."""
    options = [param for param in command.params if isinstance(param, Option)]
    for title in sorted({option.section for option in options}, key=_OPTION_SECTIONS.index):
        yield title, [(_typed(option), option.help or "") for option in options if option.section == title]


def _typed(option: Option) -> str:
    """Return how an option is typed: ``-w, --connect-timeout D``."""
    names = ", ".join(sorted(option.opts, key=len))
    return names if option.is_flag or option.count else f"{names} {option.metavar or option.type.name}"


# -- as text


def overview(commands: Summaries) -> str:
    """Return what ``netkit`` alone shows."""
    lines = [f"netkit: {_SUMMARY}", "", *_table(_EXAMPLES, 2, HELP_WIDTH), ""]
    lines += ["Usage: netkit COMMAND [OPTIONS] ...", ""]
    for title, pairs in _command_sections(commands):
        heading = title
        for name, summary in pairs:
            lines.append(f"{heading:<8}{name:<11}{summary}")
            heading = ""
    lines += ["", "-v says more, -q nothing, -h helps, --version.  netkit help COMMAND, man netkit"]
    return "\n".join(lines)


def help_page(command: Command, path: str) -> str:
    """Return what ``COMMAND --help`` shows: a sentence, examples, and the options under their headings."""
    options = list(_option_sections(command))
    width = _term_width([pair for _, pairs in options for pair in pairs], HELP_WIDTH - 2)
    lines = [*_wrapped(_paragraphs(command)[0], 0, HELP_WIDTH), "", *_table(command.examples, 2, HELP_WIDTH), ""]
    lines.append(f"Usage: {path} [OPTIONS] {command.words}".rstrip())
    for title, pairs in options:
        lines += ["", title, *_table(pairs, 2, HELP_WIDTH, width)]
    lines += ["", f"Exit codes and more: netkit help {command.name}.  Addresses: netkit help."]
    return "\n".join(lines)


def to_text(page: Page) -> str:
    """Return a page as plain text."""
    margin = " " * _INDENT
    lines = ["NAME", f"{margin}{page.name} - {page.summary}", "", "SYNOPSIS", f"{margin}{page.command} {page.words}"]
    for section in page.sections:
        lines += ["", section.title]
        for number, block in enumerate(section.blocks):
            lines += [""] if number else []
            if isinstance(block, str):
                lines += _wrapped(block, _INDENT, PAGE_WIDTH)
            else:
                lines += [f"   {block.heading}"] if block.heading else []
                lines += _table(block.pairs, _INDENT, PAGE_WIDTH, section.term_width())
    see = ", ".join(f"{name}(1)" for name in page.see)
    lines += ["", "SEE ALSO", *_wrapped(see, _INDENT, PAGE_WIDTH)]
    return "\n".join(lines)


def _table(pairs: Pairs, indent: int, width: int, term_width: int | None = None) -> list[str]:
    """Return terms with their meanings beside them; below those that are too wide."""
    if term_width is None:
        term_width = _term_width(pairs, width - indent)
    lines = []
    for term, meaning in pairs:
        beside = _wrapped(meaning, indent + term_width + 2, width)
        if len(term) <= term_width:
            beside[0] = f"{'':{indent}}{term:{term_width}}  {beside[0].lstrip()}"
        else:
            lines.append(" " * indent + term)
        lines += beside
    return lines


def _term_width(pairs: Pairs, width: int) -> int:
    """Return the width of the widest term that leaves the meanings enough of ``width``."""
    room = width - 2 - min(_MEANING_WIDTH, max((len(meaning) for _, meaning in pairs), default=0))
    return max((len(term) for term, _ in pairs if len(term) <= room), default=4)


def _wrapped(text: str, indent: int, width: int) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(
        text, width, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False, break_long_words=False
    )


# -- as mdoc

_LITERALS = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", '"': r"\(dq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
)


def to_mdoc(page: Page) -> str:
    """Return a page in the mdoc language, for man."""
    lines = [
        f".Dd {DATE}",
        f".Dt {page.name.upper()} 1",
        f".Os netkit {__version__}",
        ".Sh NAME",
        f".Nm {page.name}",
        f".Nd {_prose(page.summary)}",
        ".Sh SYNOPSIS",
        f".Nm {page.command}",
        *_synopsis(page.words),
    ]
    for section in page.sections:
        lines.append(f".Sh {section.title}")
        for number, block in enumerate(section.blocks):
            if isinstance(block, str):
                lines += [".Pp"] if number else []
                lines += _lines(block)
                continue
            lines += [f".Ss {block.heading}"] if block.heading else [".Pp"] if number else []
            lines.append(f".Bl -tag -width {section.term_width()}n -compact")
            for term, meaning in block.pairs:
                lines += [f".It {_term(term, block.macro)}", *_lines(meaning)]
            lines.append(".El")
    lines += [".Sh SEE ALSO", *(f".Xr {name} 1 ," for name in page.see)]
    return "\n".join(lines).removesuffix(" ,") + "\n"


def _synopsis(words: str) -> Iterator[str]:
    for bracketed, plain in re.findall(r"\[([^]]*)\]|(\S+)", words):
        yield f".Op {_marked(bracketed)}" if bracketed else f".{_marked(plain)}"


def _term(term: str, macro: str) -> str:
    if macro == "Fl":
        return _marked(term)
    return f'{macro} "{_literal(term)}"'.strip()


def _marked(words: str) -> str:
    """Mark up options and their arguments: ``-w, --wait D`` is ``Fl w , Fl \\-wait Ar D``."""
    marked = []
    for word in re.findall(r",|[^\s,]+", words):
        if word.startswith("-"):
            marked.append(f"Fl {_literal(word[1:])}")
        else:
            marked.append(word if word == "," else f"Ar {_literal(word)}")
    return " ".join(marked)


def _lines(text: str) -> Iterator[str]:
    """Yield a paragraph as lines of input; each sentence begins one, so that man can tell where sentences end."""
    for sentence in re.split(r"(?<=[.?!]) (?=[A-Z])", text):
        for line in _wrapped(sentence, 0, PAGE_WIDTH):
            yield re.sub(r"^(?=[.'])", r"\\&", _prose(line))


def _prose(text: str) -> str:
    """Escape text. The hyphens of options stay what was typed; others are the typesetter's."""
    return re.sub(r"(?<!\w)-[\w-]*", lambda option: option[0].replace("-", r"\-"), text.replace("\\", r"\e"))


def _literal(text: str) -> str:
    """Escape what is to be typed: every character can be copied from the page, and no word is taken for a macro."""
    return re.sub(r"^(?=[A-Z][a-z]{1,2}$|\W$)", r"\\&", text.translate(_LITERALS))


# -- on disk


def write(folder: str) -> None:
    """Write every page into a folder, and remove the pages of commands that are gone."""
    os.makedirs(folder, exist_ok=True)
    written = set()
    for page in pages():
        written.add(f"{page.name}.1")
        with open(os.path.join(folder, f"{page.name}.1"), "w", encoding="utf-8") as file:
            file.write(to_mdoc(page))
    for name in os.listdir(folder):
        if re.fullmatch(r"netkit(-.*)?\.1", name) and name not in written:
            os.unlink(os.path.join(folder, name))


if __name__ == "__main__":
    write(*(sys.argv[1:] or ["man"]))
