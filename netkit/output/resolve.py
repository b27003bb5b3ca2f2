"""Answers to look-ups as lines, as JSON or, on a terminal, as a table. Foreign text is printable ASCII."""

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from netkit.core.errors import NAME_PRECEDENCE, Exit, Failure, most_severe
from netkit.core.units import duration, milliseconds
from netkit.output.console import STDOUT, Verbosity, View, tell_failure, terminal_size
from netkit.output.escape import printable
from netkit.output.jsonl import family_name, octets, record
from netkit.output.stdout import StdoutWriter, stdout_writer
from netkit.services.resolve import Answer, Outcome, Query, Value, answers, iter_names, local_host


async def write(words: Sequence[str], how: Query, view: View, verbosity: Verbosity) -> int:
    """Look up names, write the answers and a message for each failure, and return the exit code."""
    table: list[Answer] = []
    typed = "-" in words and os.isatty(0)  # names are answered as they are typed; a table is drawn at the end
    drawn = os.isatty(STDOUT) and not (typed or verbosity.json or verbosity.quiet)
    failures: dict[Exit, Failure] = {}

    def note(outcome: Outcome) -> None:
        if isinstance(outcome.result, Failure):
            failures.setdefault(outcome.result.exit, outcome.result)
            tell_failure(outcome.result, verbosity, host=outcome.name)
        elif verbosity.json:
            stdout.write(_json(outcome.result))
        elif drawn:
            table.append(outcome.result)
        elif not verbosity.quiet:
            stdout.write(_lines(outcome.result, named=len(words) > 1 or "-" in words))

    async with stdout_writer() as stdout:
        if words:
            await answers(_at_pace(iter_names(words), stdout), how, note)
        else:
            note(Outcome("", await local_host(how)))
        if table:
            await stdout.write_each(_table(table, coloured=view.coloured(STDOUT)))
    return most_severe(failures.values(), NAME_PRECEDENCE).exit if failures else Exit.OK


async def _at_pace(names: AsyncIterator[str], stdout: StdoutWriter) -> AsyncIterator[str]:
    """The names, no faster than the answers are read."""
    async for name in names:
        await stdout.room()
        yield name


def _lines(answer: Answer, *, named: bool) -> str:
    lines = []
    for value in answer.values:
        head = [answer.name] if named else [value.kind] if not answer.name else []
        lines.append("\t".join(map(printable, (*head, str(value)))) + "\n")
    return "".join(lines)


def _table(answers: Sequence[Answer], *, coloured: bool) -> Iterator[str]:
    from netkit.output.terminal.tables import drawn, fitted

    heads = ["NAME", "ANSWER", "CANONICAL NAME", "TIME"]
    asked = any(answer.server for answer in answers)
    rows = []
    for answer in answers:
        server = [f"{answer.server or ''} {answer.protocol or ''}"] if asked else []
        rest = [answer.canonical or "", duration(answer.seconds), *server]
        rows += [[answer.name or value.kind, str(value), *rest] for value in answer.values]
    heads += ["SERVER"] if asked else []
    picture = fitted(heads, rows, terminal_size(STDOUT).columns, wrapped="ANSWER", right=["TIME"])
    return drawn(picture, len(rows), coloured=coloured)


def _json(answer: Answer) -> str:
    """A JSON object for each value."""
    lines = []
    for value in answer.values:
        is_address = value.kind in ("address", "A", "AAAA")
        fields = {
            "host": answer.name,
            "address": value.text if is_address else None,
            "port": value.port,
            "family": family_name(value.text) if is_address else None,
            "name": value.text if value.kind in ("name", "hostname", "fqdn") else None,
            "type": value.kind if value.ttl is not None else None,
            "value": value.text if value.ttl is not None else None,
            **_strings(value),
            "ttl_s": value.ttl,
            "canonical": answer.canonical,
            "server": answer.server,
            "protocol": answer.protocol,
            "time_ms": milliseconds(answer.seconds),
        }
        event = value.kind if value.ttl is None else "record"
        lines.append(record(event, "resolve", **fields) + "\n")
    return "".join(lines)


def _strings(value: Value) -> dict[str, Any]:
    """The fields of a record of strings, such as TXT: the list, and all of them joined."""
    if not value.strings:
        return {}
    pieces = [piece.decode("utf-8", "backslashreplace") for piece in value.strings]
    return {"strings": pieces, **octets(b"".join(value.strings))}
