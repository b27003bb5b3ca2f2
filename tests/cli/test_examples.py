"""The examples in help, man pages, README and docs: the parser accepts each, with its options and addresses.

tests/interop/test_examples.py runs them.
"""

import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator

import pytest

from netkit.cli import man, pages
from netkit.cli.app import all_commands, run
from netkit.cli.topics import TOPICS
from tests.support.examples import DOCUMENTS, examples

COMMANDS = all_commands()
# What a shell or ssh would replace, and by what.
VARIABLES = {
    "$NETKIT_ADDRESS": "127.0.0.1:9",
    "$NOTIFY_SOCKET": "/run/notify",
    "%h:%p": "host:22",
    "$(cat app.pid)": "1234",
}
ONCE = Counter(example for where, example in examples() if where not in ("netkit", "README.md", "coming-from.md"))


def calls(line: str) -> Iterator[list[str]]:
    """Yield the arguments of each netkit that a shell command starts, also in a quoted command of another shell."""
    for variable, value in VARIABLES.items():
        line = line.replace(variable, value)
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
            call.append(word)
        if re.search(r"(^|[ =])netkit ", word):
            yield from calls(word)


def test_each_stands_once() -> None:
    """No example is repeated, except in the overview, the README and coming-from.md."""
    assert [example for example, times in ONCE.items() if times > 1] == []


def test_what_is_referred_to_is_there() -> None:
    """Links in documents lead to files, and ``netkit help PAGE`` in documents and manual to existing pages."""
    texts = {path: path.read_text() for path in DOCUMENTS}
    links = [path.parent / link for path, text in texts.items() for link in re.findall(r"\]\(([^):#]+)", text)]
    assert [link for link in links if not link.exists()] == []
    manual = [*map(pages.to_text, man.pages()), *(pages.topic_text(topic.sections) for topic in TOPICS.values())]
    named = set(re.findall(r"netkit help(?: |\n *)([a-z][a-z-]*)", "".join([*manual, *texts.values()])))
    assert named <= COMMANDS.keys() | TOPICS.keys()


@pytest.mark.parametrize(("where", "example"), [each for each in examples() if "netkit " in each[1]])
def test_the_parser_takes_it(
    where: str, example: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The parser accepts each netkit command in the example, without errors or warnings."""
    monkeypatch.setattr(os, "isatty", lambda fd: fd == 2)
    started = list(calls(example))
    assert started or "/netkit " in example
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
    """Shell commands are split at operators, but not within quotes."""
    assert list(calls(line)) == words
