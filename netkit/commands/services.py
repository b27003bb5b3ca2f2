"""Look: look up port names"""

import click

from netkit.cli import habits, options, run
from netkit.cli.command import command
from netkit.output.console import Verbosity


@command(
    words="[NAME|PORT...]",
    habits=habits.HABITS,
    examples=[
        ("netkit services https", "find the port of a service"),
        ("netkit services 53/udp", "find the service on a port"),
        ("netkit services", "show the whole table"),
    ],
)
@click.argument("words", nargs=-1)
@options.json_option
def services(words: tuple[str, ...], json: bool) -> int:
    """Show the ports of services, and the services on ports: name, port and protocol, other names.

    netkit looks in /etc/services and then in a table of its own. Without words it shows /etc/services, or its own table
    if there is none. A NAME or PORT may be followed by /tcp or /udp. Exit code 3 means that one of them is in neither
    table.
    """
    from netkit.core.errors import Exit, Failure
    from netkit.core.port_names import find, table
    from netkit.output.jsonl import record

    found = {word: find(word) for word in words}
    shown = dict.fromkeys(service for each in found.values() for service in each) if words else table()
    if json:
        lines = [record("service", "services", **service._asdict()) for service in shown]
        code = run.answer("\n".join(lines)) if lines else Exit.OK
    else:
        code = run.answer_rows(
            [(service.name, f"{service.port}/{service.protocol}", " ".join(service.aliases)) for service in shown]
        )
    missing = [word for word, each in found.items() if not each]
    if code or not missing:
        return code
    failure = Failure(Exit.NOTHING, f"find {', '.join(missing)}", "no such service or port")
    return run.conclude(failure, Verbosity(json=json))
