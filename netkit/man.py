"""From the live command tree to help pages and man pages. ``python -m netkit.man`` writes ``man/``."""

import textwrap
from collections.abc import Iterator, Sequence

import click

from netkit.shell import Command, Option

WIDTH = 80
_SECTIONS = ("Addresses", "Serving", "Ending", "Data", "Time", "Talk")


def overview(commands: Sequence[tuple[str, str, str]]) -> str:
    """Return what ``netkit`` alone shows; ``commands`` are section, name and summary."""
    lines = [
        "netkit: talk TCP and unix sockets from the shell",
        "",
        "  netkit connect example.org 80             join stdin and stdout to a TCP port",
        "  netkit listen :9000 > file                take one connection, keep what it sends",
        "  netkit echo 0 -- make test                a server for as long as a command runs",
        "",
        "Usage: netkit COMMAND [OPTIONS] ...",
        "",
    ]
    order = ("Talk", "Serve", "Look", "Bytes", "More")
    for section in sorted({section for section, _, _ in commands}, key=order.index):
        heading = section
        for _, name, summary in (entry for entry in commands if entry[0] == section):
            lines.append(f"{heading:<8}{name:<11}{summary}")
            heading = ""
    lines += ["", "-v says more, -q says nothing, -h helps, --version.  netkit help COMMAND, man netkit"]
    return "\n".join(lines)


def help_page(command: Command, path: str) -> str:
    """Return what ``COMMAND --help`` shows: a sentence, examples, and the options under their headings."""
    summary = paragraphs(command)[0]
    lines = [*textwrap.wrap(summary, WIDTH), ""]
    for line, meaning in command.examples:
        lines += [f"  {line}", f"      {meaning}"]
    lines += ["", f"Usage: {path} [OPTIONS] {command.words}"]
    for section, options in sections(command):
        lines += ["", section]
        for option in options:
            lines += _entry(option_names(option), option.help or "")
    return "\n".join(lines)


def paragraphs(command: click.Command) -> list[str]:
    """Return the paragraphs of a command's description, each as one line."""
    return [" ".join(part.split()) for part in (command.help or "").split("\n\n")]


def sections(command: Command) -> Iterator[tuple[str, list[Option]]]:
    """Yield the headings with their options, in the order of all help pages."""
    for section in _SECTIONS:
        options = [p for p in command.params if isinstance(p, Option) and p.section == section]
        if options:
            yield section, options


def option_names(option: Option) -> str:
    """Return how an option is typed: ``-w, --connect-timeout D``."""
    names = ", ".join(sorted(option.opts, key=len))
    if option.is_flag or option.count:
        return names
    return f"{names} {option.metavar or option.type.name}"


def _entry(head: str, body: str) -> list[str]:
    column = 26
    wrapped = textwrap.wrap(body, WIDTH - column)
    first = f"  {head:<{column - 4}}  "
    if len(first) > column:
        return [first.rstrip(), *(" " * column + line for line in wrapped)]
    return [first + wrapped[0], *(" " * column + line for line in wrapped[1:])]
