"""The shell completion scripts. ``python -m netkit.cli.man`` writes their tables from the commands.

They are static, so that pressing Tab starts no interpreter. The shell itself completes files, hosts and the like.
"""

import os
import re
from collections.abc import Callable, Iterator
from pkgutil import get_data
from typing import NamedTuple

from netkit.cli.app import all_commands, summaries
from netkit.cli.command import Option
from netkit.cli.topics import TOPICS

SHELLS = ("bash", "zsh", "fish")
_BEGIN, _END = "# -- written by python -m netkit.cli.man\n", "# -- until here\n"

# How a value is completed, by its option or by its name in help. Other values are not completed.
_KINDS = {
    "--service": "service",
    "--server": "host",
    "--port": "service",
    "CMD": "command",
    "FILE": "file",
    "IF": "interface",
    "NAME": "host",
    "URL": "begins with socks5h:// socks5:// socks4a:// socks4:// http:// https://",
}

# How the words of a command are completed, by the first of them in its usage.
_WORDS = {
    "ADDRESS": "address",
    "COMMAND|TOPIC": "one of {topics}",
    "LISTEN": "address",
    "NAME": "host",
    "NAME|PORT": "service",
    "SHELL": f"one of {' '.join(SHELLS)}",
    "TARGET": "address",
    "URL": "begins with http:// https://",
    "WORD": "host",
}


class Row(NamedTuple):
    """An option of one or more commands. ``kind`` is how its value is completed, empty if it takes none."""

    names: tuple[str, ...]
    value: str
    kind: str
    help: str
    again: bool


def path(shell: str) -> str:
    """The path of a shell's script, unless netkit is in an archive."""
    return os.path.join(os.path.dirname(os.path.dirname(__file__)), _file(shell))


def stored(shell: str) -> str:
    """The script of a shell as stored in the package."""
    return (get_data("netkit", _file(shell)) or b"").decode()


def script(shell: str) -> str:
    """The script of a shell with new tables."""
    before, _, rest = stored(shell).partition(_BEGIN)
    return before + _BEGIN + "\n".join(_TABLES[shell]()) + "\n" + _END + rest.partition(_END)[2]


def _file(shell: str) -> str:
    return f"completions/netkit.{shell}"


def _summaries() -> list[tuple[str, str]]:
    """Names and summaries of the commands."""
    return [(name, summary) for _, name, summary in summaries(list(all_commands()))]


def _options() -> dict[Row, list[str]]:
    """Each option, with the commands that have it."""
    rows: dict[Row, list[str]] = {}
    for name, command in all_commands().items():
        for option in command.params:
            if isinstance(option, Option):
                rows.setdefault(_row(option), []).append(name)
    return rows


def _row(option: Option) -> Row:
    words = getattr(getattr(option.type, "parse", None), "keywords", {}).get("words", ())
    value = option.type.name if option.takes_value else ""
    named = [_KINDS[name] for name in (*option.opts, value) if name in _KINDS]
    kind = f"one of {' '.join(words)}" if words else named[0] if named else "any"
    sentence = re.split(r"[.;] |\.$", re.sub(r" \([^)]*\)", "", option.help or ""))[0]
    return Row(tuple(option.opts), value, kind if value else "", sentence, option.multiple or option.count)


def _words() -> Iterator[tuple[str, str]]:
    """Yield commands with the kind of their words."""
    topics = " ".join([*all_commands(), *TOPICS])
    for name, command in all_commands().items():
        first = re.match(r"\[?([A-Z|]+)", command.words)
        if first and first[1] in _WORDS:
            yield name, _WORDS[first[1]].format(topics=topics)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", r"'\''") + "'"


def _bash() -> Iterator[str]:
    yield f"_netkit_commands={_quoted(' '.join(all_commands()))}"
    yield "_netkit_table() {"
    for name, kind in _words():
        yield f"    _netkit_words {name} {_quoted(kind)}"
    names: dict[tuple[str, str], list[str]] = {}  # by the commands that have the options, and by their kind
    for row, commands in _options().items():
        names.setdefault((" ".join(commands), row.kind), []).extend(row.names)
    for (having, kind), alike in names.items():
        yield f"    _netkit_option {_quoted(having)} {_quoted(kind)} {' '.join(alike)}"
    yield "}"


def _zsh() -> Iterator[str]:
    yield "_netkit_commands() {"
    yield "    names=("
    yield from (f"        {_quoted(f'{name}:{summary}')}" for name, summary in _summaries())
    yield "    )"
    yield "}"
    yield "_netkit_table() {"
    for name, kind in _words():
        yield f"    _netkit_option {name} {_quoted(f'*:word:{_zsh_action(kind)}')}"
    for row, commands in _options().items():
        meaning = "[" + re.sub(r"([][\\:])", r"\\\1", row.help) + "]"
        value = ":" + row.value.replace(":", r"\:") + ":" + _zsh_action(row.kind) if row.kind else ""
        specs = []
        for name in row.names:
            joined = "" if not row.kind else "=" if name.startswith("--") else "+"
            specs.append(_quoted(f"{'*' * row.again}{name}{joined}{meaning}{value}"))
        yield f"    _netkit_option {_quoted(' '.join(commands))} {' '.join(specs)}"
    yield "}"


def _zsh_action(kind: str) -> str:
    if kind.startswith("one of "):
        return f"({kind.removeprefix('one of ')})"
    if kind.startswith("begins with "):
        return '{compadd -S "" ' + kind.removeprefix("begins with ").replace(":", r"\:") + "}"
    actions = {"command": "_cmdstring", "file": "_files", "host": "_hosts", "address": "_netkit_address"}
    return {**actions, "service": "_ports", "interface": "_net_interfaces"}.get(kind, " ")


def _fish() -> Iterator[str]:
    for name, summary in _summaries():
        yield f"complete -c netkit -n __netkit_command -a {name} -d {_quoted(summary)}"
    for name, kind in _words():
        yield f"__netkit_option {name} -x -a {_fish_values(kind)}"
    for row, commands in _options().items():
        names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in row.names)
        takes = {"": "", "any": " -x", "file": " -r -F"}.get(row.kind, f" -x -a {_fish_values(row.kind)}")
        yield f"__netkit_option {_quoted(' '.join(commands))} {names}{takes} -d {_fish_quoted(row.help)}"


def _fish_values(kind: str) -> str:
    functions = {"command": "__fish_complete_command", "host": "__fish_print_hostnames", "service": "__netkit_ports"}
    functions |= {"address": "__netkit_addresses", "interface": "__fish_print_interfaces"}
    if kind in functions:
        return f"'({functions[kind]})'"
    return _fish_quoted(kind.removeprefix("one of ").removeprefix("begins with "))


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", r"\\").replace("'", r"\'") + "'"


_TABLES: dict[str, Callable[[], Iterator[str]]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}


def write() -> None:
    """Write every script to its ``path``."""
    for shell in SHELLS:
        text = script(shell)
        with open(path(shell), "w", encoding="utf-8") as file:
            file.write(text)
