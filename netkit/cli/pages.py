"""The pages of help: what ``--help`` and ``netkit help`` show, and what man pages hold."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from typing import Any, NamedTuple, Protocol

import click

from netkit.cli import topics
from netkit.cli.rules import Rule, sentences
from netkit.cli.topics import Pairs, Section, Terms
from netkit.output.console import STDOUT, terminal_size

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


def overview_page(commands: Summaries) -> Page:
    """The page of netkit itself."""
    return Page(
        command="netkit",
        summary=topics.SUMMARY,
        words="COMMAND [OPTIONS] ...",
        sections=(
            Section("DESCRIPTION", topics.DESCRIPTION),
            Section("COMMANDS", [Terms(pairs, "Ic", title) for title, pairs in _command_sections(commands)]),
            Section("OPTIONS", [Terms(topics.OPTIONS, "Fl")]),
            topics.ADDRESSES,
            topics.VALUES,
            topics.CHAPTERS,
            Section("ENVIRONMENT", [Terms(topics.ENVIRONMENT, "Ev")]),
            topics.EXIT_STATUS,
            Section("EXAMPLES", [Terms(topics.EXAMPLES, "Ic")]),
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
        sections.append(Section("FORMAT", topics.FORMAT))
    if any("--port-file" in option.opts for option in command.params):
        sections.append(Section("ENVIRONMENT", topics.FOR_COMMAND))
    sections += [topics.EXIT_STATUS, Section("EXAMPLES", [Terms(command.examples, "Ic")])]
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
    lines = [*wrapped(f"netkit: {topics.SUMMARY}", 0, width), "", *_table(topics.EXAMPLES[:3], 2, width), ""]
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
    most = _widest([pair for _, pairs in options for pair in pairs], width - 2)
    lines = [*wrapped(_paragraphs(command)[0], 0, width), "", *_table(command.examples, 2, width), ""]
    lines += wrapped(f"Usage: {path} [OPTIONS] {command.words}", 0, width)
    for title, pairs in options:
        lines += ["", title, *_table(pairs, 2, width, most)]
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
                lines += _table(block.pairs, _INDENT, width, term_width(section, width))
    return lines


def term_width(section: Section, width: int = PAGE_WIDTH) -> int:
    """The columns for terms on a page of this ``width``, the same in the whole section."""
    pairs = [pair for block in section.blocks if isinstance(block, Terms) for pair in block.pairs]
    return _widest(pairs, width - _INDENT)


def _table(pairs: Pairs, indent: int, width: int, most: int | None = None) -> list[str]:
    """Terms with their meanings beside them; below those that are wider than ``most``."""
    if most is None:
        most = _widest(pairs, width - indent)
    lines = []
    for term, meaning in pairs:
        beside = wrapped(meaning, indent + most + 2, width)
        if len(term) <= most:
            beside[0] = f"{'':{indent}}{term:{most}}  {beside[0].lstrip()}"
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


def _widest(pairs: Pairs, width: int) -> int:
    """The width of the widest term that leaves the meanings enough of ``width``."""
    room = width - 2 - min(_MEANING_WIDTH, max((len(meaning) for _, meaning in pairs), default=0))
    return max((len(term) for term, _ in pairs if len(term) <= room), default=4)


def wrapped(text: str, indent: int, width: int) -> list[str]:
    """Fold text into lines of at most ``width``, each after ``indent`` blanks."""
    margin = " " * indent
    return textwrap.wrap(
        text, width, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False, break_long_words=False
    )
