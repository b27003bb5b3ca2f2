"""Look: find an unused port"""

from typing import Literal

import click

from netkit.cli import habits, options, run
from netkit.cli.command import DATA, command
from netkit.cli.types import COUNT
from netkit.output import console
from netkit.output.console import Verbosity


@command(
    words="",
    habits={**habits.HABITS, "-u": "--udp finds UDP ports"},
    examples=[
        ("netkit free-port", "one port, for a script"),
        ("netkit free-port -n 3 --udp", "three UDP ports, all different"),
    ],
)
@click.argument("words", nargs=-1)
@DATA.option("-n", "--count", type=COUNT, default="1", help="Print N ports (default: 1).")
@DATA.option("--udp", help="Find UDP ports.")
@options.json_option
def free_port(words: tuple[str, ...], count: int, udp: bool, json: bool) -> int:
    """Print a port on which nothing listens, on any interface, in IPv4 and IPv6.

    Another program may take the port before you use it. A server on port 0 avoids this race: netkit listen, echo and
    upper tell their port by --print-port and --port-file, and to a COMMAND.
    """
    from netkit.core.errors import Exit, Invalid
    from netkit.output.jsonl import record
    from netkit.services.free_port import free_ports

    if words:
        raise Invalid(f"unexpected word {words[0]!r}: the system chooses the port")
    protocol: Literal["tcp", "udp"] = "udp" if udp else "tcp"

    async def work() -> None:
        found = await free_ports(count, protocol)
        lines = [record("port", "free-port", port=port, protocol=protocol) if json else str(port) for port in found]
        console.write("\n".join(lines) + "\n")

    return run.Run(Verbosity(json=json))(work(), refused=Exit.BIND)
