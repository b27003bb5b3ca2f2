"""Help and man pages: current, complete, and with the same content as text and as mdoc."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from netkit.cli import man, pages, topics
from netkit.cli.app import all_commands
from netkit.cli.app import netkit as group
from netkit.core.errors import Exit
from tests.support import netkit
from tests.support.processes import tool
from tests.support.refusals import refused
from tests.support.terminals import on_terminal

FOLDER = Path(__file__).parents[2] / "man"
CONTEXT = click.Context(group, info_name="netkit")
COMMANDS = all_commands()
PAGES = {page.name: page for page in man.pages()}
ENDS = ["--send-only", "--shutdown-after", "--no-shutdown", "--hold", "--grace", "--until", "--max-bytes"]

each_command = pytest.mark.parametrize("name", COMMANDS)
each_help = pytest.mark.parametrize("args", [("--help",), ("connect", "--help"), ("help",)], ids=" ".join)
each_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


def squeezed(text: str) -> str:
    """Return ``text`` without white space, as the two renderers break lines in different places."""
    return "".join(text.split())


def typeset(mdoc: str) -> str:
    """Return a page as rendered by mandoc, without overstrikes, header and footer."""
    done = subprocess.run([tool("mandoc"), "-T", "ascii"], input=mdoc, capture_output=True, text=True, check=True)
    lines = re.sub(".\b", "", done.stdout).splitlines()
    return "\n".join(lines[1:-1])


def lint(mdoc: str) -> str:
    """Return the warnings of mandoc."""
    done = subprocess.run([tool("mandoc"), "-T", "lint", "-W", "warning"], input=mdoc, capture_output=True, text=True)
    return done.stdout + done.stderr


def help_of(name: str) -> str:
    """Return the --help of a command."""
    return COMMANDS[name].get_help(click.Context(COMMANDS[name], CONTEXT, info_name=name))


# -- the committed pages


def test_exit_codes_are_documented() -> None:
    """docs/exit-codes.md has all codes with their meanings, and no others."""
    page = (FOLDER.parent / "docs" / "exit-codes.md").read_text()
    [codes] = topics.EXIT_STATUS.blocks
    assert isinstance(codes, topics.Terms) and len(codes.pairs) == len(Exit)
    assert re.findall(r"^\| ([0-9]\S*) \| (.*) \|$", page, re.MULTILINE) == codes.pairs


def test_man_is_current(tmp_path: Path) -> None:
    """The committed pages are what ``python -m netkit.cli.man`` writes: none is stale, missing or superfluous."""
    man.write(str(tmp_path))
    fresh = {path.name: path.read_text() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert sorted(fresh) == sorted(committed), "run python -m netkit.cli.man"
    assert [name for name in fresh if fresh[name] != committed[name]] == [], "run python -m netkit.cli.man"


def test_a_page_for_netkit_and_for_each_command(tmp_path: Path) -> None:
    """``python -m netkit.cli.man FOLDER`` creates the folder, with netkit.1 and a page for each command."""
    folder = tmp_path / "share" / "man1"
    subprocess.run([sys.executable, "-m", "netkit.cli.man", str(folder)], check=True)
    assert {path.name for path in folder.iterdir()} == {"netkit.1", *(f"netkit-{name}.1" for name in COMMANDS)}


def test_pages_of_gone_commands_are_removed(tmp_path: Path) -> None:
    """Pages of former commands are removed, and other files are kept."""
    for name in ("netkit-gone.1", "netkitten.1", "notes.txt"):
        (tmp_path / name).write_text("old")
    man.write(str(tmp_path))
    left = {path.name for path in tmp_path.iterdir()}
    assert "netkit-gone.1" not in left
    assert {"netkitten.1", "notes.txt", "netkit.1"} <= left


# -- two renderers


@each_page
def test_lint(page: pages.Page) -> None:
    """mandoc has no warnings about a page."""
    assert lint(man.to_mdoc(page)) == ""


@each_page
def test_mdoc_and_text_say_the_same(page: pages.Page) -> None:
    """mandoc shows the same text as ``netkit help``, except for white space."""
    assert squeezed(typeset(man.to_mdoc(page))) == squeezed(pages.to_text(page))


def test_nothing_is_read_as_markup() -> None:
    """Dots and quotes at the start of a line, backslashes, macro names and dashes are shown unchanged."""
    nasty = [
        ".Sh A leading dot, and .Pp within",
        "'quoted' at the start, \"quoted\" within, `so` and ^ ~ too",
        r"\n \fB \\ \" \(aq \e and one at the end \ ".strip(),
        "Nm Ar Fl Op. Ends with a dot. ...and dots! 'Then' a quote",
        "options -v, --port-file, --a-b-c=x-y and half-close, -5, a - b -- c",
        "word " * 13 + ".Pp on the next line " + "word " * 14 + "'quoted again",
    ]
    terms = ["-x, --long-option ADDR[:PORT]", '-- "COMMAND"...', r"\e", "Nm", "a 'b' `c` ^ ~ -d", "."]
    pairs = list(zip(terms, nasty, strict=True))
    blocks: list[str | topics.Terms] = [
        *nasty,
        topics.Terms(pairs, "Fl", "Options"),
        topics.Terms(pairs, "Ic"),
        topics.Terms(pairs),
        nasty[0],
    ]
    page = pages.Page(
        "netkit nasty",
        r"it's .Sh \n --x",
        "[-x, --long-option ADDR] [-- COMMAND...]",
        [topics.Section("DESCRIPTION", blocks)],
        ["netkit"],
    )
    mdoc = man.to_mdoc(page)
    assert lint(mdoc) == ""
    assert squeezed(typeset(mdoc)) == squeezed(pages.to_text(page))


@each_page
def test_what_is_typed_can_be_copied(page: pages.Page) -> None:
    """In what users type, - ' ` ^ and ~ are escaped in mdoc, as they would be typeset as non-ASCII characters."""
    lines = man.to_mdoc(page).splitlines()
    terms = [line for line in lines if line.startswith((".It ", ".Op "))]
    prose = [line for line in lines if not line.startswith(".")]
    assert terms and prose
    assert [line for line in terms if re.search(r"(?<!\\)-|['`^~]", line)] == []
    assert [line for line in prose if re.search(r"(?<![\w\\])-|\\-\w+-", line)] == []


@each_page
def test_text_fits(page: pages.Page) -> None:
    """Lines of a page have at most 78 columns, no trailing space, and only ASCII."""
    lines = pages.to_text(page).splitlines()
    assert [line for line in lines if len(line) > 78 or line != line.rstrip() or not line.isascii()] == []


# -- the content of the pages


@each_page
def test_exit_status(page: pages.Page) -> None:
    """Every page has all exit codes."""
    shown = squeezed(pages.to_text(page))
    for code in Exit:
        number = "128+n" if code is Exit.SIGNAL else str(int(code))
        assert number + squeezed(code.meaning) in shown


@each_command
def test_every_option_is_documented(name: str) -> None:
    """The man page and --help have each spelling of each option, and its description."""
    for shown in (pages.to_text(PAGES[f"netkit-{name}"]), help_of(name)):
        for option in (param for param in COMMANDS[name].params if isinstance(param, click.Option)):
            for spelling in option.opts:
                assert re.search(rf"(?<![\w-]){re.escape(spelling)}(?![\w-])", shown)
            assert option.help and squeezed(option.help) in squeezed(shown)


@each_command
def test_examples(name: str) -> None:
    """A command has 2 or 3 examples that use it, each on one line of the man page and of --help, for copying."""
    shown_by = [typeset(man.to_mdoc(PAGES[f"netkit-{name}"])), help_of(name)]
    assert 2 <= len(COMMANDS[name].examples) <= 3
    for example, meaning in COMMANDS[name].examples:
        assert re.search(rf"(^|[ (])netkit {name}\b", example)
        for shown in shown_by:
            assert any(example in line for line in shown.splitlines())
            assert squeezed(meaning) in squeezed(shown)


def test_every_command_is_listed() -> None:
    """The overview and netkit(1) have each command with its summary, and netkit(1) refers to its page."""
    overview, page = group.get_help(CONTEXT), pages.to_text(PAGES["netkit"])
    for name in COMMANDS:
        summary = PAGES[f"netkit-{name}"].summary
        assert re.search(rf"(^| ){name} +{re.escape(summary)}$", page, re.MULTILINE)
        assert re.search(rf"(^|  ){name} +{re.escape(summary[:12])}", overview, re.MULTILINE)
        assert f"netkit-{name}(1)" in page


@each_command
def test_help_fits(name: str) -> None:
    """Lines of --help have at most 80 columns, and no trailing space."""
    assert [line for line in help_of(name).splitlines() if len(line) > 80 or line != line.rstrip()] == []


def test_overview_fits() -> None:
    """The overview fits a screen of 80 columns and 24 lines, with the shell's prompt below it."""
    lines = group.get_help(CONTEXT).splitlines()
    assert [line for line in lines if len(line) > 80 or line != line.rstrip()] == []
    assert len(lines) <= 23


@pytest.mark.parametrize("columns", [40, 50])
@pytest.mark.parametrize(
    "args", [(), ("help", "pack"), ("help", "ending"), ("udp-send", "--help"), ("fetch", "--help")], ids=" ".join
)
def test_help_on_a_narrow_terminal(args: tuple[str, ...], columns: int) -> None:
    """On a narrow terminal lines are folded between words, and only single words may be too wide."""
    code, data = on_terminal(*args, columns=columns, env={"PAGER": "cat"})
    assert code == 0
    lines = data.decode().replace("\r\n", "\n").splitlines()
    assert [line for line in lines if len(line) > columns and len(line.split()) > 1] == []


def test_help_on_a_terminal_of_unknown_size() -> None:
    """A terminal that reports no size, as a serial line does, gets help of 80 columns."""
    code, data = on_terminal("--help", columns=0, rows=0)
    assert (code, data.replace(b"\r\n", b"\n")) == (0, netkit("--help").out)


def test_an_example_on_a_narrow_terminal() -> None:
    """On a narrow terminal a command is continued with a backslash, and quoted words are not broken."""
    code, data = on_terminal("pack", "--help", columns=40)
    lines = data.decode().replace("\r\n", "\n")
    assert code == 0
    example = """  netkit pack --hex \\
    'u16:port u32le:seq ip str' 80 7 \\
    10.0.0.1 hi
        show the bytes
"""
    assert example in lines


# -- asking for help


@pytest.mark.parametrize(
    "args", [(), ("--help",), ("-h",), ("help",), ("connect", "--help"), ("help", "--help")], ids=str
)
def test_help_is_an_answer(args: tuple[str, ...]) -> None:
    """Help is written to stdout, with exit code 0 and an empty stderr."""
    done = netkit(*args)
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(b"\n") and b"netkit" in done.out


@pytest.mark.parametrize(("words", "page"), [((), "netkit"), (("connect",), "netkit-connect")])
def test_help_needs_no_other_program(words: tuple[str, ...], page: str) -> None:
    """``netkit help`` and ``netkit help COMMAND`` print the page as text without man or mandoc."""
    assert netkit("help", *words, env={"PATH": ""}) == (0, pages.to_text(PAGES[page]).encode() + b"\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("conect", "no such command or topic 'conect', did you mean 'connect'?"),
        ("exitcodes", "no such command or topic 'exitcodes', did you mean 'exit-codes'?"),
        ("zzz", "no such command or topic 'zzz'"),
        ("mock", "no such command or topic 'mock': netkit listen PORT --reply TEXT sends everybody the same answer"),
        ("connect 80", "unexpected word '80' after COMMAND 'connect'"),
    ],
)
def test_help_of_what_is_no_command(words: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Help of an unknown command is a usage error in one line, with a suggestion if there is one."""
    assert refused(capfd, "help", *words.split()) == message


@each_help
def test_help_to_a_full_disk(args: tuple[str, ...]) -> None:
    """If help cannot be written, the exit code is 23, with a message."""
    with open("/dev/full", "wb") as full:
        done = netkit(*args, stdout=full)
    assert done.code == Exit.WRITE
    assert re.fullmatch(r"netkit.*: cannot write to stdout: no space left on device\n", done.err)


@each_help
def test_help_to_a_reader_that_left(args: tuple[str, ...]) -> None:
    """If the reader of help has left, netkit ends silently by SIGPIPE, which a shell shows as 141."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as pipe:
        assert netkit(*args, stdout=pipe) == (-signal.SIGPIPE, b"", "")


# -- the pager

PAGERS = ({"PAGER": "cat"}, {"PAGER": ""}, {"PAGER": "tr a-z A-Z", "NETKIT_PAGER": " cat "}, {"TERM": "dumb"})


@pytest.mark.parametrize("env", PAGERS, ids=str)
def test_no_pager_where_none_is_wanted(env: dict[str, str]) -> None:
    """With an empty PAGER, cat or a dumb terminal, help is written to the terminal as to a pipe."""
    code, data = on_terminal("help", "values", env={"PAGER": "tr a-z A-Z", **env})
    assert (code, data.replace(b"\r\n", b"\n")) == (0, netkit("help", "values").out)


@pytest.mark.parametrize(
    ("env", "shown"),
    [
        ({"PAGER": "tr a-z A-Z"}, b"A DURATION:"),
        ({"PAGER": "cat", "MANPAGER": "tr a-z A-Z"}, b"A DURATION:"),
        ({"PAGER": "cat", "MANPAGER": "cat", "NETKIT_PAGER": "tr a-z A-Z"}, b"A DURATION:"),
        ({"PAGER": "true"}, b""),
        ({"PAGER": "false"}, b""),
        ({"PAGER": "echo [$LESS]; :"}, b"[FRX]"),
        ({"PAGER": "echo [$LESS]; :", "LESS": ""}, b"[]"),
        ({"PAGER": "nosuchpager"}, b"A duration:"),
    ],
    ids=str,
)
def test_a_terminal_gets_its_pager(env: dict[str, str], shown: bytes) -> None:
    """The most specific variable names the pager. Its early end is no error; if it is missing, the text is printed."""
    code, data = on_terminal("help", "values", env={"LANG": "C", **env})
    assert code == 0
    assert shown in data and (shown or not data)


def test_a_pager_that_cannot_be_started() -> None:
    """If the system cannot start the pager, as it has no free descriptor, the text is printed."""
    few = ("prlimit", "--nofile=5")
    code, data = on_terminal("help", "values", env={"PAGER": "tr a-z A-Z"}, wrapper=few)
    assert (code, data.replace(b"\r\n", b"\n")) == (0, netkit("help", "values").out)


def test_less_is_the_pager_where_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a variable the pager is less, which exits by itself if the page fits the screen."""
    tool("less")
    for name in ("PAGER", "MANPAGER", "NETKIT_PAGER", "LESS"):
        monkeypatch.delenv(name, raising=False)
    code, data = on_terminal("help", "values")
    assert code == 0
    assert b"A duration:" in data


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("addresses", ["HOST:PORT", "unix:@NAME", "tls:", "udp:"]),
        ("exit-codes", [str(int(code)) for code in Exit if code is not Exit.SIGNAL]),
        ("proxies", ["socks5h", "socks4a", "https", "NETKIT_PROXY_PASSWORD", "--proxy-user-file", "--source", "97"]),
        ("ending", ENDS),
        ("values", ["500ms", "64K"]),
    ],
)
def test_topics(topic: str, words: list[str]) -> None:
    """A topic has the words it is about, in lines that fit, and ``netkit help`` lists it."""
    code, shown, err = netkit("help", topic)
    assert (code, err) == (0, "")
    text = shown.decode()
    assert max(map(len, text.splitlines())) <= 78
    assert [word for word in words if word not in text] == []
    assert f"netkit help {topic} " in pages.to_text(PAGES["netkit"])
    assert topic in help_of("help") + pages.to_text(PAGES["netkit-help"])


def test_the_document_of_endings() -> None:
    """docs/ending.md names each option that decides when a conversation ends."""
    document = (FOLDER.parent / "docs" / "ending.md").read_text()
    assert [word for word in ENDS if word not in document] == []
