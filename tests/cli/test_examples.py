"""The examples in help, man pages, README and docs: the parser takes each, with all options and addresses."""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from netkit.cli.app import netkit, run
from netkit.cli.command import Command

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONTEXT = click.Context(netkit, info_name="netkit")
COMMANDS: dict[str, Command] = {
    name: netkit.resolve_command(CONTEXT, [name])[1] for name in netkit.list_commands(CONTEXT)
}
# What a shell or ssh would put there.
VARIABLES = {"$NETKIT_ADDRESS": "127.0.0.1:9", "$NOTIFY_SOCKET": "/run/notify", "%h:%p": "host:22"}
TYPED = re.compile(r"""(?:'[^']*'|"[^"]*"|[^'"\s]|\s(?!\s))*""")  # up to two spaces, behind which it is explained


def blocks(text: str) -> Iterator[str]:
    """Yield the lines of indented blocks in which netkit is called; those that end in a backslash are joined."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if re.match(r"(?: {2}| {4})(?! )(?:.*[|&({'=] ?)?netkit [a-z]", line):
            yield TYPED.match(line.strip())[0]


def cells(text: str) -> Iterator[str]:
    """Yield what the second column of tables says is to be typed."""
    for table in re.findall(r"^\| you (?:typed|want) \| type \|\n(?:\|.*\n)+", text, re.MULTILINE):
        for row in table.splitlines()[2:]:
            column = re.split(r"(?<!\\)\|", row)[2].replace("\\|", "|")
            yield from (code for code in re.findall(r"`([^`]+)`", column) if code.startswith("netkit "))


def examples() -> Iterator[tuple[str, str]]:
    """Yield each example with where it stands; man pages have those of help."""
    for name, command in COMMANDS.items():
        yield from ((f"help {name}", example) for example, _ in command.examples)
    yield from (("help", example) for example in blocks(netkit.get_help(CONTEXT)))
    for document in DOCUMENTS:
        text = document.read_text()
        yield from ((document.name, example) for example in (*blocks(text), *cells(text)))


def calls(line: str) -> Iterator[list[str]]:
    """Yield the words of each netkit that a line of the shell starts, in a word for another shell too."""
    lexer = shlex.shlex(re.sub(r"\$\(.*?\)", "01:02:03:04:05:06", line), posix=True, punctuation_chars="|&<>(){};")
    lexer.whitespace_split, lexer.commenters = True, ""
    call: list[str] | None = None
    for word in [*lexer, ";"]:
        if not set(word) - set("|&<>(){};"):
            if call:
                yield call
            call = None
        elif call is None and word.rpartition("=")[2] == "netkit":
            call = []
        elif call is not None:
            for variable, value in VARIABLES.items():
                word = word.replace(variable, value)
            call.append(word)
        if re.search(r"(^|[ =])netkit ", word):
            yield from calls(word)


@pytest.mark.parametrize(("where", "example"), list(examples()))
def test_the_parser_takes_it(
    where: str, example: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each command of it would run: no option, address or value is a mistake, and none excludes another."""
    monkeypatch.setattr(os, "isatty", lambda fd: fd == 2)
    started = list(calls(example))
    assert started
    for words in started:
        monkeypatch.setattr(COMMANDS[words[0]], "callback", lambda **values: 0)
        assert (run(words), capfd.readouterr()) == (0, ("", ""))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("netkit pack H 80 | netkit connect db:1 > file", [["pack", "H", "80"], ["connect", "db:1"]]),
        ("netkit echo 0 -- sh -c 'netkit help'", [["help"], ["echo", "0", "--", "sh", "-c", "netkit help"]]),
        ("ssh -o ProxyCommand='netkit connect %h:%p' host", [["connect", "host:22"]]),
        ("netkit udp-send '<broadcast>' 9 <<< x", [["udp-send", "<broadcast>", "9"]]),
    ],
)
def test_calls(line: str, words: list[list[str]]) -> None:
    """What the shell splits is split, and what it quotes is not."""
    assert list(calls(line)) == words
