"""How answers to look-ups are written: lines, JSON or, on a terminal, a table. Foreign text is printable ASCII."""

import os
from collections.abc import Sequence

from netkit.core.errors import NAME_PRECEDENCE, Exit, Failure, most_severe
from netkit.output.console import Verbosity, View, tell_failure
from netkit.output.escape import printable
from netkit.output.jsonl import record
from netkit.output.stdout import Put, answering
from netkit.services.resolve import Answer, Outcome, Query, answers, given, here


async def tell(words: Sequence[str], how: Query, view: View, talk: Verbosity) -> int:
    """Look names up and write what comes, each failure as a line of its own; return the exit code."""
    table: list[Answer] = []
    drawn = os.isatty(1) and not (talk.json or talk.quiet)
    failures: list[Failure] = []

    async def work(put: Put) -> None:
        def note(outcome: Outcome) -> None:
            if isinstance(outcome.result, Failure):
                failures.append(outcome.result)
                tell_failure(outcome.result, talk)
            elif talk.json:
                put(_json(outcome.result))
            elif drawn:
                table.append(outcome.result)
            elif not talk.quiet:
                put(_lines(outcome.result, named=len(words) > 1 or "-" in words))

        if words:
            await answers(given(words), how, note)
        else:
            note(Outcome("", await here(how)))
        if table:
            from netkit.output.terminal.resolve import answer_table

            put(answer_table(table, coloured=view.coloured(1)))

    await answering(work)
    return most_severe(failures, NAME_PRECEDENCE).exit if failures else Exit.OK


def _lines(answer: Answer, *, named: bool) -> str:
    lines = []
    for value in answer.values:
        head = [answer.name] if named else [value.kind] if not answer.name else []
        lines.append("\t".join(map(printable, (*head, value.text))) + "\n")
    return "".join(lines)


def _json(answer: Answer) -> str:
    """Return an object per value."""
    lines = []
    for value in answer.values:
        family = ("ipv6" if ":" in value.text else "ipv4") if value.kind in ("address", "A", "AAAA") else None
        fields = {
            "host": answer.name,
            "address": value.text if family else None,
            "family": family,
            "name": value.text if value.kind in ("name", "hostname", "fqdn") else None,
            "type": value.kind if value.ttl is not None else None,
            "value": value.text if value.ttl is not None else None,
            "ttl_s": value.ttl,
            "canonical": answer.canonical,
            "server": answer.server,
            "protocol": answer.protocol,
            "time_ms": round(answer.seconds * 1000, 3),
        }
        event = value.kind if value.ttl is None else "record"
        lines.append(record(event, "resolve", **fields) + "\n")
    return "".join(lines)
