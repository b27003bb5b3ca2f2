"""The table of answers to look-ups on a terminal."""

from collections.abc import Sequence

from rich.text import Text

from netkit.core.units import duration
from netkit.output.escape import printable
from netkit.output.terminal.tables import drawn, table
from netkit.services.resolve import Answer


def answer_table(answers: Sequence[Answer], *, coloured: bool) -> str:
    """Return the table of answers to look-ups as the text that draws it."""
    heads = ["NAME", "ANSWER", "CANONICAL NAME", "TIME"]
    asked = any(answer.server for answer in answers)
    made = table(*heads, *(["SERVER"] if asked else []), right=["TIME"])
    for answer in answers:
        for value in answer.values:
            cells = [answer.name or value.kind, value.text, answer.canonical or "", duration(answer.seconds)]
            cells += [f"{answer.server or ''} {answer.protocol or ''}"] if asked else []
            made.add_row(*(Text(printable(cell)) for cell in cells))
    return drawn(made, coloured=coloured)
