"""``python -m tests.options [COMMAND ...]`` lists where each option is explained.

That is under a heading of the command's man page, and for some options in one page of docs. Paragraphs of other pages
that name the option must link to that page.
"""

import re
import sys
from collections.abc import Iterator
from typing import NamedTuple

from netkit.cli.app import all_commands
from netkit.cli.command import Option
from tests.support.examples import DOCUMENTS

_COMMANDS = all_commands()
_TLS = [name for name, command in _COMMANDS.items() if any("--cafile" in each.opts for each in command.params)]
_SERVERS = ("echo", "listen", "proxy", "relay", "udp-serve", "upper")
# The pages that explain options, and the commands whose options they explain.
PAGES = {
    "addresses.md": _SERVERS,
    "bytes.md": ("pack", "unpack"),
    "datagrams.md": ("udp-send", "udp-serve"),
    "ending.md": ("connect", "listen", "relay"),
    "ports.md": ("portcheck",),
    "proxies.md": ("connect", "fetch", "portcheck", "proxy", "relay"),
    "recipes.md": ("portcheck",),
    "scripts.md": ("connect", "fetch", *_SERVERS),
    "sockets.md": ("sockets",),
    "tls.md": _TLS,
    "urls.md": ("fetch",),
}
# Pages that name options, but do not explain them.
OTHERS = (
    *("ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "SECURITY.md"),
    *("benchmarks.md", "coming-from.md", "exit-codes.md", "not.md", "packaging.md"),
)


class Place(NamedTuple):
    """Where an option of a command is explained: a heading of its man page, and pages of docs."""

    command: str
    option: str
    heading: str
    pages: list[str]


def places() -> Iterator[Place]:
    """Yield each option of each command with its places."""
    paragraphs = {path.name: list(_paragraphs(path.read_text())) for path in DOCUMENTS if path.name in PAGES}
    for name, command in _COMMANDS.items():
        for option in command.params:
            if isinstance(option, Option):
                found = {
                    page: [each for each in texts if _names(each, name, option)] for page, texts in paragraphs.items()
                }
                links = [f"]({page})" for page, texts in found.items() if texts]
                pages = [
                    page
                    for page, texts in found.items()
                    if name in PAGES[page] and not all(any(link in text for link in links) for text in texts)
                ]
                yield Place(name, ", ".join(sorted(option.opts, key=len)), option.section, pages)


def _names(text: str, command: str, option: Option) -> bool:
    """Whether a text has an option in code that does not name another command."""
    named = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, option.opts))})(?![\w-])")
    others = _COMMANDS.keys() - {command}
    return any(named.search(code) and others.isdisjoint(code.split()) for code in re.findall(r"`([^`]+)`", text))


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a document, and the rows of its tables, without code blocks."""
    for paragraph in re.sub(r"(?m)^( {4}.*|```[^`]*^```)$", "", text).split("\n\n"):
        yield from paragraph.split("\n") if paragraph.startswith("|") else [paragraph]


if __name__ == "__main__":
    for place in places():
        if not sys.argv[1:] or place.command in sys.argv[1:]:
            print(f"{place.command:10}  {place.option:24}  {place.heading:9}  {', '.join(place.pages)}".rstrip())
