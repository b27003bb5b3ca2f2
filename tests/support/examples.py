"""The examples in documents and man pages: each command line, and the document or page it is in."""

import re
from collections.abc import Iterator
from pathlib import Path

from netkit.cli import man
from netkit.cli.topics import Terms

_ROOT = Path(__file__).parents[2]
DOCUMENTS = [_ROOT / "README.md", *sorted((_ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(?:\w+ title=(\S+))?.*?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TYPED = re.compile(r"""(?:'[^']*'|"[^"]*"|[^'"\s]|\s(?!\s))*""")  # up to two spaces, after which it is explained
_TABLE = re.compile(r"^\| you (?:typed|want) \| type \|\n(?:\|.*\n)+", re.MULTILINE)


def blocks(text: str) -> Iterator[str]:
    """Yield the lines of indented blocks, with lines that end in a backslash joined."""
    for line in re.sub(r"\\\n\s*", "", _FENCE.sub("", text)).splitlines():
        if re.match(r" {4}\S", line):
            found = _TYPED.match(line.strip())
            assert found
            yield found[0]


def cells(text: str) -> Iterator[str]:
    """Yield the command lines in the second column of tables."""
    for table in _TABLE.findall(text):
        for row in table.splitlines()[2:]:
            yield from re.findall(r"`([^`]+)`", re.split(r"(?<!\\)\|", row)[2].replace("\\|", "|"))


def files(document: str) -> dict[str, str]:
    """The files that a document shows, by their titles."""
    text = next(path for path in DOCUMENTS if path.name == document).read_text()
    return {title: content for title, content in _FENCE.findall(text) if title}


def examples() -> Iterator[tuple[str, str]]:
    """Yield the name of a document or man page, and an example in it. Help has the examples of the man page."""
    for page in man.pages():
        for section in page.sections:
            if section.title in ("EXAMPLES", "TOPICS"):
                pairs = [pair for block in section.blocks if isinstance(block, Terms) for pair in block.pairs]
                yield from ((page.name, example) for example, _ in pairs)
    for document in DOCUMENTS:
        text = document.read_text()
        yield from ((document.name, example) for example in (*blocks(text), *cells(text)))
