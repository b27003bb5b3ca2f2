"""Options that exclude or need others: tries each pair in the rules of each command."""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import click
import pytest

from netkit.cli.app import all_commands, run
from netkit.cli.command import Option
from netkit.cli.pages import command_page
from netkit.cli.rules import Case, Rule, Term, excluded, name_of, needs, one_of, sentences
from netkit.cli.topics import Terms

COMMANDS = all_commands()
WORDS = {
    "connect": "127.0.0.1 1",
    "fetch": "https://127.0.0.1/a",
    "pack": "",
    "portcheck": "127.0.0.1:1",
    "relay": "0 127.0.0.1:1",
    "resolve": "localhost",
    "sockets": "",
    "udp-send": "127.0.0.1 1",
    "unpack": "",
}
VALUES = {
    "ADDR[:PORT]": "127.0.0.1",
    "ADDRESS": "127.0.0.1",
    "CIDR": "::/0",
    "CODE,...": "200",
    "CMD": "true",
    "D": "1s",
    "FIELD": "X:y",
    "FILE": "/nosuch/file",
    "FORMAT": "tap",
    "GROUP": "239.1.2.3",
    "HEX": "00",
    "HOST:PORT:ADDR": "h:80:127.0.0.1",
    "IF": "lo",
    "METHOD": "PUT",
    "MODE": "600",
    "N": "1",
    "N|any": "1",
    "NAME": "localhost",
    "NAME,...": "h2",
    "PROTOCOL": "smtp",
    "REGEX": "x",
    "S": "listen",
    "SIZE": "9",
    "TEXT": "x",
    "TYPE": "A",
    "URL": "socks5h://127.0.0.1:1",
    "USER[:PASSWORD]": "me:secret",
    "VALUE": "127.0.0.1",
    "VERSION": "1.2",
    "WHEN": "auto",
    "sha256:HEX": "sha256:" + "0" * 64,
    "u8|u16|u32[le]": "u8",
}


class Scene(NamedTuple):
    """The arguments, options and terminals with which an option is given, or a case holds."""

    words: str | None = None
    options: str = ""
    terminals: tuple[int, ...] = (2,)


Judge = Callable[[str, Iterable[Scene]], str]

# The scene of each case, by its name, or by its name and the command's.
SCENES = {
    "--length without FORMAT": Scene(options="--length u8"),
    "--send-only for one client": Scene(options="--send-only"),
    "--tls, or a tls: or https: server": Scene(options="--tls --server localhost"),
    "--unix alone": Scene(options="--unix"),
    "COMMAND": Scene("0 -- true"),
    "COMMAND without a reply or a program": Scene("0 -- true"),
    "FORMAT": Scene("B 01"),
    "NAME": Scene(),
    "TEXT": Scene("127.0.0.1 1 text"),
    "a URL as TARGET": Scene("redis://127.0.0.1"),
    "a URL of http or https": Scene("http://127.0.0.1/"),
    "a URL other than of http or https": Scene("redis://127.0.0.1"),
    "a URL that is asked by datagrams": Scene("ntp://127.0.0.1"),
    "a dump on stderr": Scene(options="-vvv"),
    "a file or a pipe": Scene(),
    "a newer --tls-min": Scene(options="--tls-min 1.3"),
    "a server": Scene(),
    "a terminal on stderr": Scene(),
    "a tls: address as LISTEN": Scene("tls:0 127.0.0.1:1"),
    "a tls: address as TARGET": Scene("0 tls:127.0.0.1:1"),
    "a udp: address": Scene("udp:127.0.0.1:1"),
    "a unix socket": Scene("unix:/nosuch/socket"),
    "a unix socket, fetch": Scene(options="--unix-socket /nosuch/socket"),
    "a unix socket, portcheck": Scene("unix:/nosuch/socket"),
    "a unix socket, relay": Scene("unix:/nosuch/socket 127.0.0.1:1"),
    "a unix: address as TARGET": Scene("0 unix:/nosuch/socket"),
    "an answer shown on a terminal": Scene(terminals=(1, 2)),
    "an https: server": Scene(options="--server https://localhost/"),
    "an http URL": Scene("http://127.0.0.1/"),
    "--tls or a tls: address": Scene(options="--tls"),
    "a tls: address": Scene("0 tls:127.0.0.1:1"),
    "several URLs": Scene("https://127.0.0.1/a https://127.0.0.1/b"),
    "several clients": Scene(options="--keep"),
    "text typed on a terminal": Scene(terminals=(0, 2)),
    "two unix: addresses": Scene("unix:/nosuch/one unix:/nosuch/two"),
    "user and password in the URL": Scene("https://me:secret@127.0.0.1/"),
}

# Scenes in which a case that options need does not hold.
MISSED = {
    "NAME": Scene(""),
    "a file or a pipe": Scene(terminals=(0, 1, 2)),
    "a terminal on stderr": Scene(terminals=()),
}


def scene(name: str, term: Term) -> Scene:
    """Return the scene of an option or of a case of a command."""
    text = name_of(term)
    if found := SCENES.get(f"{text}, {name}") or SCENES.get(text):
        return found
    typed, _, value = text.partition(" ")
    [option] = [p for p in COMMANDS[name].params if isinstance(p, Option) and typed in p.opts]
    if not option.takes_value:
        return Scene(options=typed)
    kind = option.type.name
    if typed == "-H" and value:
        value = f"{value}:y"
    joint = "=" if typed.startswith("--") else ""
    return Scene(options=f"{typed}{joint}{value or VALUES.get(kind) or kind.split('|')[0]}")


def scenes(name: str, terms: Sequence[Term], broken: Rule | None = None) -> Iterator[Scene]:
    """Yield the scenes of these terms, and of what they need by the rules before the ``broken`` one."""
    for term in terms:
        yield scene(name, term)
        for rule in COMMANDS[name].rules:
            if rule is broken:
                break
            if rule.needed and name_of(term) in map(name_of, rule.terms):
                yield from scenes(name, rule.others[:1])


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Judge:
    """A function that runs the parser of a command in scenes, and returns its error message, or "" for none."""

    def judge(name: str, shown: Iterable[Scene]) -> str:
        shown = list(shown)
        terminals = next((each.terminals for each in shown if each.terminals != (2,)), (2,))
        monkeypatch.setattr(os, "isatty", lambda fd: fd in terminals)
        monkeypatch.setattr(COMMANDS[name], "callback", lambda **values: 0)
        words = next((each.words for each in reversed(shown) if each.words is not None), WORDS.get(name, "0"))
        options = [option for each in shown for option in each.options.split()]
        code = run([name, *options, *words.split()])
        out, err = capfd.readouterr()
        assert (code, out) == ((2, "") if err else (0, ""))
        assert err.count("\n") == (1 if err else 0)
        if err.startswith("{"):
            assert "--json" in options
            message: str = json.loads(err)["error"]["message"]
            return message
        return err.removeprefix(f"netkit {name}: ").removesuffix("\n")

    return judge


def pairs() -> Iterator[tuple[str, Rule, Term, Term, str]]:
    """Yield each pair that a rule of a command forbids, and the error message."""
    for name, command in COMMANDS.items():
        for rule in command.rules:
            if not rule.others:
                for number, term in enumerate(rule.terms):
                    for other in rule.terms[number + 1 :]:
                        yield name, rule, term, other, f"{name_of(term)} and {name_of(other)} exclude each other"
            elif not rule.needed:
                for term in rule.terms:
                    for other in rule.others:
                        yield name, rule, term, other, f"{name_of(term)} does not apply: {rule.why}"


def lonely() -> Iterator[tuple[str, Rule, Term, str]]:
    """Yield each term that needs another one, and the error message without it."""
    for name, command in COMMANDS.items():
        for rule in command.rules:
            for term in rule.terms if rule.needed else ():
                what = " or ".join(map(name_of, rule.others))
                why = f"does not apply: {rule.why}" if rule.why else f"needs {what}"
                yield name, rule, term, f"{name_of(term)} {why}"


PAIRS = [pytest.param(*row, id=f"{row[0]} {name_of(row[2])} {name_of(row[3])}") for row in pairs()]
LONELY = [pytest.param(*row, id=f"{row[0]} {name_of(row[2])}") for row in lonely()]
ALWAYS = "a server"  # a case that always holds, so that the terms it excludes are never accepted
RULED = [
    (name, rule, name_of(term)) for name, command in COMMANDS.items() for rule in command.rules for term in rule.terms
]
ALONE = sorted(
    {(name, term) for name, _, term in RULED}
    - {(name, term) for name, rule, term in RULED if ALWAYS in map(name_of, rule.others)}
)


@pytest.mark.parametrize(("name", "rule", "term", "other", "message"), PAIRS)
def test_pair_is_refused(name: str, rule: Rule, term: Term, other: Term, message: str, judge: Judge) -> None:
    """Two terms that exclude each other are 2, with one line that names them or gives the reason."""
    assert judge(name, scenes(name, [other, term], rule)) == message


@pytest.mark.parametrize(("name", "rule", "term", "message"), LONELY)
def test_what_is_needed_is_missed(name: str, rule: Rule, term: Term, message: str, judge: Judge) -> None:
    """An option without what it needs is 2, with one line that says so."""
    missed = [MISSED[name_of(other)] for other in rule.others if name_of(other) in MISSED]
    assert judge(name, [*missed, *scenes(name, [term], rule)]) == message


@pytest.mark.parametrize(("name", "option"), ALONE)
def test_alone_it_is_accepted(name: str, option: str, judge: Judge) -> None:
    """Each term in a rule is accepted with what it needs, and nothing else."""
    assert judge(name, scenes(name, [option])) == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_rules_name_options_that_there_are(name: str) -> None:
    """A message or a man page names no option, as a reason or in a case, that the command does not have."""
    rules = COMMANDS[name].rules
    texts = [text for rule in rules for text in (rule.why, *map(name_of, (*rule.terms, *rule.others)))]
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", " ".join(texts)))
    assert named <= COMMANDS[name].options.keys()


EITHER = one_of("--one", "--two", "--three")
APART = excluded("--one", "--two", by=("--three", "--four"), why="it is three")
NEEDY = needs("--one", on=("--two", "--three"))


@pytest.mark.parametrize(
    ("rule", "given", "message"),
    [
        (EITHER, "", ""),
        (EITHER, "--two", ""),
        (EITHER, "--three --two", "--two and --three exclude each other"),
        (EITHER, "--three --two --one", "--one and --two exclude each other"),
        (APART, "--one --two", ""),
        (APART, "--four", ""),
        (APART, "--four --two", "--two does not apply: it is three"),
        (NEEDY, "", ""),
        (NEEDY, "--one --three", ""),
        (NEEDY, "--one", "--one needs --two or --three"),
    ],
)
def test_a_rule(rule: Rule, given: str, message: str) -> None:
    """The message has the first terms in the rule's order, and its reason or else what is needed."""
    assert rule.broken(lambda term: name_of(term) in given.split()) == message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--format text --all --json", "--json and --format exclude each other"),
        ("--format text --all", ""),
        ("--format tap --all", "--all does not apply: tap has every port anyway"),
        ("--wait 0 --interval 1s", "--interval does not apply: there is one round without --wait"),
        ("--send= --expect x --payload=", "--payload and --send exclude each other"),
    ],
)
def test_what_counts_is_what_is_typed(words: str, message: str, judge: Judge) -> None:
    """An empty value counts as given, a default does not, and some rules are about one value."""
    assert judge("portcheck", [Scene(options=words)]) == message


def test_sentences() -> None:
    """The man page lists for an option what it needs, and once what it excludes."""
    case = Case("a unix socket", lambda values: True)
    rules = [
        needs("--key", on="--cert"),
        needs("--key", on=("--tls", "--both"), why="there is none"),
        one_of("--hold", "--grace", "--key"),
        excluded("--key", "-4", by=case, why="there is none"),
        excluded("--raw", "--hold", by="--key", why="there is none"),
        excluded("--all", by="--key x", why="there is none"),
    ]
    assert sentences(rules, ["-k", "--key"]) == (
        "Needs --cert. Needs --tls or --both. Not with --hold, --grace, a unix socket or --raw."
    )
    assert sentences(rules, ["-4"]) == "Not with a unix socket."
    assert sentences(rules, ["--all"]) == "Not with --key x."
    assert sentences(rules, ["--cert"]) == sentences(rules, ["--none"]) == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_man_page_has_the_rules(name: str) -> None:
    """In a man page the sentences of the rules follow the description of an option."""
    page = command_page(COMMANDS[name], name, "")
    [options] = [section for section in page.sections if section.title == "OPTIONS"]
    shown = [meaning for block in options.blocks if isinstance(block, Terms) for _, meaning in block.pairs]
    for option in (param for param in COMMANDS[name].params if isinstance(param, click.Option)):
        assert f"{option.help} {sentences(COMMANDS[name].rules, option.opts)}".strip() in shown
