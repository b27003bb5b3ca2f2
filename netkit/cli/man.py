"""Man pages in mdoc, generated from the commands.

``python -m netkit.cli.man FOLDER`` writes them into FOLDER; without it into ``man/``, and the completion scripts too.
"""

import os
import re
import sys
from collections.abc import Iterator

from netkit import __version__
from netkit.cli import completion
from netkit.cli.app import all_commands, summaries
from netkit.cli.pages import PAGE_WIDTH, Page, command_page, overview_page, term_width, wrapped

DATE = "November 29, 2026"  # of the last change of the texts; fixed, so that builds are reproducible

_LITERALS = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", '"': r"\(dq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
)


def pages() -> Iterator[Page]:
    """Yield every page, from the commands."""
    found = all_commands()
    listed = summaries(list(found))
    yield overview_page(listed)
    for _, name, summary in listed:
        yield command_page(found[name], name, summary)


def to_mdoc(page: Page) -> str:
    """A page in mdoc(7), for man."""
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
            lines.append(f".Bl -tag -width {term_width(section)}n -compact")
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
    """Yield a paragraph as lines of mdoc. Each sentence begins a line, so that man sees where sentences end."""
    for sentence in re.split(r"(?<=[.?!]) (?=[A-Z])", text):
        for line in wrapped(sentence, 0, PAGE_WIDTH):
            yield re.sub(r"^(?=[.'])", r"\\&", _prose(line))


def _prose(text: str) -> str:
    """Escape text. The hyphens of options are kept as ASCII, so that they can be copied."""
    return re.sub(r"(?<!\w)-[\w-]*", lambda option: option[0].replace("-", r"\-"), text.replace("\\", r"\e"))


def _literal(text: str) -> str:
    """Escape text to be typed: each character can be copied from the page, and no word is taken for a macro."""
    return re.sub(r"^(?=[A-Z][a-z]{1,2}$|\W$)", r"\\&", text.translate(_LITERALS))


def write(folder: str) -> None:
    """Write every page into ``folder``, and remove the pages of commands that no longer exist."""
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
    if sys.argv[1:]:
        write(*sys.argv[1:])
    else:
        write("man")
        completion.write()
