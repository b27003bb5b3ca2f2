"""Usage errors: each ends with exit code 2 and one line, before any connection or listening socket."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit.cli import app
from netkit.cli.app import run
from tests.support import PATIENCE, netkit, peer, read_all
from tests.support.processes import HERE, strace
from tests.support.refusals import mistake, the_line
from tests.support.terminals import on_terminal

Case = tuple[list[str], str]
"""What is typed after ``netkit``, and what the message has to say."""

SERVERS = ("echo", "listen", "upper")
LONG = "x" * 20_000


# -- tables

COMMANDS: list[Case] = [
    (["conect", "h", "1"], "netkit: no such command 'conect', did you mean 'connect'?"),
    (["lisen", "0"], "no such command 'lisen', did you mean 'listen'?"),
    (["ecoh", "0"], "no such command 'ecoh', did you mean 'echo'?"),
    (["uper", "0"], "no such command 'uper', did you mean 'upper'?"),
    (["localhost", "80"], "netkit: no such command 'localhost': netkit connect localhost 80 connects"),
    (["-v", "localhost:80"], "no such command 'localhost:80': netkit connect localhost:80 connects"),
    (["localhost"], "no such command 'localhost': netkit connect localhost PORT connects"),
    (["b.example"], "no such command 'b.example': netkit connect b.example PORT connects"),
    (["::1", "-v", "80"], "no such command '::1': netkit connect ::1 80 connects"),
    (["unix:/a b"], "no such command 'unix:/a b': netkit connect 'unix:/a b' connects"),
    (["udp:db:53"], "no such command 'udp:db:53': netkit connect udp:db:53 connects"),
    (["0"], "netkit: no such command '0': netkit listen 0 listens on a free port"),
    (["9000"], "no such command '9000': netkit listen 9000 listens there, netkit connect :9000 connects"),
    (["http://b.example/?a&b"], ": netkit fetch 'http://b.example/?a&b' gets it"),
    (["redis://b.example"], ": netkit portcheck redis://b.example says whether it is ready"),
    (["serve", "8000"], "no such command 'serve': netkit listen PORT takes a client"),
    (["-V"], "netkit: no such option '-V': netkit --version prints the version"),
    (["-v"], "netkit: a command is missing after '-v'"),
    (["-q", "--json"], "netkit: a command is missing after '--json'"),
    (["-4", "connect", "h", "1"], "netkit: no such option '-4': options of a command stand behind it"),
    (["foo://h"], "no such command 'foo://h'"),
    (["a..b", "80"], "no such command 'a..b'"),
    (["CONNECT", "h", "1"], "no such command 'CONNECT'"),
    ([""], "no such command ''"),
    (["--verbos"], "no such option '--verbos'"),
    (["--connect"], "no such option '--connect'"),
]
OPTIONS: list[Case] = [
    (["connect", "--timeot", "3", "h", "1"], "netkit connect: no such option '--timeot', did you mean '--timeout'?"),
    (["connect", "--timeot=3", "h", "1"], "no such option '--timeot', did you mean '--timeout'?"),
    (["connect", "h", "1", "--sorce", "::1"], "no such option '--sorce', did you mean '--source'?"),
    (["listen", "--prot-file", "/nosuch/p", "0"], "no such option '--prot-file', did you mean '--port-file'?"),
    (["echo", "--max-client", "3", "0"], "no such option '--max-client', did you mean '--max-clients'?"),
    (["upper", "0", "--onec"], "no such option '--onec', did you mean '--once'?"),
    (["connect", "-x", "h", "1"], "no such option '-x'"),
    (["connect", "-vx", "h", "1"], "no such option '-x'"),
    (["connect", "--tim", "3", "h", "1"], "no such option '--tim'"),
    (["connect", "h", "1", "--once"], "no such option '--once'"),
    (["connect", "h", "1", "--port-file", "/nosuch/p"], "no such option '--port-file'"),
    (["echo", "0", "--send", "x"], "no such option '--send'"),
    (["resolve", "localhost", "--progress"], "no such option '--progress'"),
    (["connect", "h", "1", "---"], "no such option '---'"),
    (["connect", "h", "1", "--=3"], "no such option '--'"),
]
HABITS: list[Case] = [
    (["connect", "-lvp", "9000"], "no such option '-l': netkit listen"),
    (["connect", "-v", "-u", "db", "53"], "no such option '-u': udp:HOST:PORT is the address"),
    (["udp-serve", "-lk", "53"], "no such option '-l': this listens already"),
    (["connect", "-nvz", "db", "53"], "no such option '-z': "),
    (["connect", "-q", "1", "db", "53"], "-q takes no number"),
    (["connect", "db", "53", "-q", "1"], "unexpected word '1'"),
    (["listen", "-q", "1", "9000"], "unexpected word '9000'"),
    (["listen", "-C", "9000", "--", "true"], "--crlf does not apply"),
]
OPTION_VALUES: list[Case] = [
    *((["connect", "127.0.0.1", "1", name], f"option {name!r} needs a value") for name in ("--send", "-w", "--source")),
    (["connect", "127.0.0.1", "1", "-vw"], "needs a value"),
    (["echo", "0", "--port-file"], "option '--port-file' needs a value"),
    (["upper", "0", "--max-clients"], "option '--max-clients' needs a value"),
    (["listen", "0", "--for"], "option '--for' needs a value"),
    (["echo", "0", "--once=3"], "option '--once' takes no value"),
    (["echo", "0", "--once="], "option '--once' takes no value"),
    (["connect", "h", "1", "--hold=1"], "option '--hold' takes no value"),
    (["connect", "h", "1", "--verbose=2"], "option '--verbose' takes no value"),
    (["connect", "h", "1", "--help=1"], "option '--help' takes no value"),
    (["connect", "127.0.0.1", "1", "--timeout", "--"], "--timeout: '--' is not a duration"),
    (["connect", "127.0.0.1", "1", "-w", "--"], "--connect-timeout: '--' is not a duration"),
    (["connect", "127.0.0.1", "1", "--timeout", "--hold"], "--timeout: '--hold' is not a duration"),
    (["connect", "127.0.0.1", "1", "-w=2"], "--connect-timeout: '=2' is not a duration"),
    (["connect", "127.0.0.1", "1", "--send", "--", "--"], "words after '--'"),
    (["echo", "0", "--port-file", "--", "true"], "unexpected word 'true'"),
    (["connect", "127.0.0.1", "1", "--send", r"\q"], r"--send: '\\q' has"),
    (["connect", "h", "1", "--send", "C:\\"], r"--send: 'C:\\' ends within an escape: write \\ for a backslash"),
    (["connect", "127.0.0.1", "1", "--send-hex", "4"], "--send-hex: '4' is not pairs of hex digits"),
    (["connect", "127.0.0.1", "1", "--source", ""], "--source: the source is empty"),
    (["connect", "127.0.0.1", "1", "--source", "localhost"], "--source: source 'localhost' is not an IP address"),
    (
        ["connect", "127.0.0.1", "1", "--source", "127.1"],
        "--source: host '127.1' is a legacy spelling: write 127.0.0.1",
    ),
    (["connect", "127.0.0.1", "1", "--source", ":70000"], "--source: port 70000 is not between"),
    (["connect", "127.0.0.1", "1", "--source", ":-1"], "--source: port -1 is negative"),
    *(
        (["connect", "127.0.0.1", "1", "--interface", name], f"--interface: {name!r} is not the name of an interface")
        for name in ("", ".", "..", "a b", "a/b", "eth0:1", "a\t", "x" * 16, "y" * 100)
    ),
    (["echo", "0", "--max-clients", "0"], "--max-clients: '0' is not a whole number from 1 on"),
    (["connect", "-n", "localhost", "1"], "'localhost' is a name, and --numeric"),
    (["connect", "-n", "--wait", "1", "localhost", "1"], "'localhost' is a name, and --numeric"),
    (["portcheck", "h:1", "--format", "tap", "--progress"], "does not apply: with tap nothing else is shown"),
    (["portcheck", "h:1", "-q", "--progress"], "--quiet and --progress exclude each other"),
    (["listen", "0", "--exec", "  "], "--exec: there is no program to run"),
    (["listen", "0", "--exec", "'"], '--exec: "\'" cannot be split into words: no closing quotation'),
    (["listen", "0", "--exec", ""], "--exec: there is no program to run"),
    (["listen", "0", "--sh-exec", ""], "--sh-exec: there is no program to run"),
    (["connect", "h", "80", "--log", ""], "--log: the path is empty"),
    (["listen", "0", "--reply-file", ""], "--reply-file: the path is empty"),
    *(([name, "-n", "localhost:0"], "'localhost' is a name, and --numeric") for name in SERVERS),
    (["echo", "0", "--allow", "10.0.0.1/8"], "--allow: '10.0.0.1/8' is an address inside a network"),
    (["echo", "0", "--deny", "localhost"], "--deny: 'localhost' is neither an IP address nor a network"),
    (["echo", "0", "--until", "("], "--until: '(' is not a regular expression"),
    (["echo", "0", "--max-conns", "0"], "--max-conns: '0' is not a whole number from 1 on"),
    (["echo", "unix:/s", "--mode", "888"], "--mode: '888' is not a mode"),
    (["connect", "h", "1", "--max-bytes", "1_0"], "--max-bytes: '1_0' is not a whole number"),
    (["listen", "0", "--sh-exec", " "], "there is no program to run"),
    (["connect", "tls:h:1", "--alpn", "a,,b"], "--alpn"),
    (["connect", "tls:h:1", "--alpn", "h\u00e9"], "--alpn"),
    (["connect", "tls:tls:h:1"], "twice"),
]
RELAYS: list[Case] = [
    (["relay"], "an address is missing"),
    (["relay", HERE], "TARGET: an address is missing"),
    (["relay", HERE, "80"], "TARGET: port 80 has no host"),
    (["relay", HERE, "127.0.0.1:0"], "TARGET: port 0"),
    (["relay", HERE, "127.0.0.1:70000"], "TARGET: port 70000"),
    (["relay", HERE, "127.0.0.1", "80", "more"], "unexpected word 'more' after address '127.0.0.1:80'"),
    (["relay", "tls:" + HERE, "127.0.0.1:80"], "a TLS server needs --cert and --key"),
    (["relay", HERE, "localhost:80", "-n"], "host 'localhost' is a name"),
    (["relay", HERE, "127.0.0.1:80", "-l"], "no such option '-l'"),
    (["relay", HERE, "127.0.0.1:80", "--tls"], "'--tls': tls: before the first address, the second, or both"),
    (["relay", HERE, "127.0.0.1:80", "--"], "COMMAND is missing"),
    (
        ["relay", "--udp", "tls:" + HERE, "127.0.0.1:80"],
        f"address 'tls:{HERE}' is none for datagrams",
    ),
    (["relay", "--udp", HERE, "tls:127.0.0.1:80"], "address 'tls:127.0.0.1:80' is none for datagrams"),
    (["relay", "--udp", HERE, "localhost:80", "-n"], "host 'localhost' is a name"),
    (["relay", "--udp", HERE, "80"], "TARGET: port 80 has no host"),
    (["relay", "--udp", HERE], "TARGET: an address is missing"),
]
WORDS: list[Case] = [
    (["connect"], "netkit connect: an address is missing: HOST PORT, HOST:PORT or unix:PATH"),
    *(([name], "an address is missing: PORT, :PORT, HOST:PORT or unix:PATH") for name in SERVERS),
    (["connect", "h", "80", "--"], "after '--'"),
    (["connect", "h", "80", "--", "true"], "words after '--' would be a command"),
    (["connect", "--", "h", "80"], "words after '--' would be a command"),
    (["connect", "--", "-h"], "words after '--' would be a command"),
    *(([name, "0", "--"], "COMMAND is missing after '--'") for name in SERVERS),
    (["echo", "--", "0"], "an address is missing"),
    (["connect", "127.0.0.1", "1", "2"], "unexpected word '2' after address '127.0.0.1:1'"),
    (["connect", "127.0.0.1:1", "2"], "unexpected word '2' after address '127.0.0.1:1'"),
    (["connect", "127.0.0.1:1", __file__], f"after address '127.0.0.1:1': < {__file__} sends the file"),
    (["connect", "127.0.0.1", "1", "-1"], "unexpected word '-1'"),
    (["connect", "unix:/nosuch/app.sock", "80"], "unexpected word '80' after address 'unix:/nosuch/app.sock'"),
    (["echo", "0", "0"], "unexpected word '0' after address '0'"),
    (["listen", "127.0.0.1", "0", "out"], "unexpected word 'out' after address '127.0.0.1:0'"),
    (["connect", "80"], "port 80 has no host"),
    (["connect", "localhost"], "'localhost' has no port"),
    (["connect", "::1"], "'::1' has no port"),
    (["listen", "localhost"], "'localhost' has no port"),
    (["echo", "tls:0"], "a TLS server needs --cert and --key"),
    (["listen", "0", "--tls", "--cert", "c.pem"], "a TLS server needs --cert and --key"),
    (["connect", "h", "80", "--tls", "--alpn", "h2,,x"], "--alpn: 'h2,,x' is not names of 1 to 255 ASCII"),
    (["connect", "h", "80", "--tls", "--servername", "a..b"], "--servername: host 'a..b' has an empty label"),
    (["connect", "tls:unix:/run/app"], "a unix socket has no name that a certificate could have"),
]
TO = ["udp-send", "127.0.0.1", "9"]
DATAGRAMS: list[Case] = [
    ([*TO, "--size", "1k"], "--size: '1k' is not a size, such as 1500, 64K, 1M or 2G"),
    ([*TO, "--size", "65508"], "--size: '65508' is more than 65507"),
    ([*TO, "--rate", "-1M"], "--rate: '-1M' is not a size"),
    *(([*TO, option, "0"], f"{option}: '0' is not a whole number from 1 on") for option in ("--repeat", "--ttl")),
    ([*TO, "--replies", "0"], "--replies: '0' is not a whole number from 1 on"),
    ([*TO, "--replies", "all"], "--replies: 'all' is not a whole number from 1 on"),
    ([*TO, "--ttl", "256"], "--ttl: '256' is more than 255"),
    ([*TO, "--wait", "-1"], "--wait: '-1' is not a duration"),
    ([*TO, "--output", "xml", "--wait", "1"], "--output: 'xml' is none of raw, lines, hex, json, none"),
    ([*TO, "x" * 65508], "TEXT 1 has 65508 bytes: 65507 are the most a datagram holds"),
    ([*TO, "ok", "\\q"], "which is none of"),
    ([*TO, "--timeout", "0"], "--timeout: '0' would leave no time at all"),
    ([*TO, "--", "true"], "words after '--' would be a command"),
    (["udp-send", "9", "text"], "port 9 has no host: write HOST 9, or :9 for this machine"),
    (["udp-send", "localhost", "text"], "port 'text' is neither a number nor a known service"),
    (["udp-send", "127.0.0.1"], "'127.0.0.1' has no port"),
    (["udp-send", "127.0.0.1", "0", "x"], "port 0 is not between 1 and 65535"),
    (["udp-send", "udp:localhost:9", "x"], "address 'udp:localhost:9' does not apply: udp: is for connect and listen"),
    (["echo", "udp:9"], "address 'udp:9' does not apply: udp: is for connect and listen"),
    (["connect", "tls:udp:localhost:9"], "address 'tls:udp:localhost:9' does not apply: datagrams are not secured"),
    (["udp-send", "tls:localhost:9", "x"], "address 'tls:localhost:9' is none for datagrams"),
    (["udp-serve", "0", "--count", "0"], "--count: '0' is not a whole number from 1 on"),
    (["udp-serve", "0", "--reply-with", "cat"], "--reply-with: 'cat' is none of echo, upper"),
    (["udp-serve", "0", "--output", "line"], "--output: 'line' is none of"),
    *(
        (["udp-serve", "0", "--join", group], f"--join: {group!r} is not a multicast address")
        for group in ("10.0.0.1", "::1", "all", "", "239.1.2", "255.255.255.255", "223.255.255.255", "240.0.0.0")
    ),
    (["udp-serve", "0", "--join", "239.1.2.3%"], "--join: '239.1.2.3%' has an empty zone"),
    (["udp-serve", "0", "-6", "--join", "239.1.2.3"], "--join 239.1.2.3 does not apply: it is of the other family"),
    (["udp-serve", "239.1.2.3:5000"], "239.1.2.3 is a multicast group: write :5000 --join 239.1.2.3"),
    *((["udp-serve", "0", option], f"no such option {option!r}") for option in ("--once", "--tls", "--greet")),
    (["udp-serve", "0", "--max-clients", "1"], "no such option '--max-clients'"),
    (["udp-serve", "0", "--for", "0"], "--for: '0' would leave no time at all"),
    (["upper", "unix:@app", "--both"], "address 'unix:@app' is one for connections or for datagrams, and not for both"),
]
HOSTS: list[Case] = [
    (["connect", "", "80"], "the host is empty"),
    (["connect", "a..b", "80"], "host 'a..b' has an empty label"),
    (["connect", "127.1", "80"], "host '127.1' is a legacy spelling: write 127.0.0.1"),
    (["connect", "127.0.0.256", "80"], "host '127.0.0.256' is no IPv4 address"),
    (["connect", "fe80::1", "80"], "link-local address fe80::1 needs a zone"),
    (["connect", "127\u30020\u30020\u30021", "80"], "is no internationalized name"),
    (["connect", "*", "80"], "host '*' is no name: a server takes every interface with :PORT"),
    (["connect", "-1", "80"], "host '-1' is not a host name"),
    (["connect", "http://b.example/"], "address 'http://b.example/' is a URL: write HOST:PORT; netkit fetch gets URLs"),
    (["connect", "tcp://b.example:80"], "address 'tcp://b.example:80' is a URL: write HOST:PORT"),
    (["listen", "https://b.example:443/"], "address 'https://b.example:443/' is a URL: write HOST:PORT"),
    (["connect", "unix:@"], "the path after unix: is empty"),
    (["connect", "unix:" + "p" * 108], "path of 108 bytes is longer than 107"),
    (["echo", "unix:"], "the path after unix: is empty"),
    (["upper", "unix:a\0b"], "NUL"),
    (["echo", "127.1:0"], "write 127.0.0.1"),
    (["listen", "a..b:0"], "empty label"),
    (["upper", "fe80::1", "0"], "needs a zone"),
]
PORTS: list[Case] = [
    (["connect", "127.0.0.1", "0"], "port 0 is not between 1 and 65535"),
    (["connect", "127.0.0.1:99999"], "netkit connect: port 99999 is not between 1 and 65535"),
    (["listen", "127.0.0.1", "65536"], "netkit listen: port 65536 is not between 0 and 65535"),
    (["echo", "70000"], "netkit echo: port 70000 is not between 0 and 65535"),
    (["upper", ":70000"], "port 70000 is not between 0 and 65535"),
    (["connect", "127.0.0.1", "-1"], "netkit connect: port -1 is negative"),
    (["connect", "127.0.0.1", "80\n"], r"port '80\n' is not a number"),
    (["connect", "127.0.0.1:nosuchsvc"], "port 'nosuchsvc' is neither a number nor a known service"),
    (["connect", "127.0.0.1", "\uff18\uff10"], "is not a number"),
]
HOSTILE: list[Case] = [
    (["connect", "ho\x1b[31mst\nX", "80"], r"host 'ho\x1b[31mst\nX' contains"),
    (["connect", "x\n::error::y", "80"], r"host 'x\n::error::y' contains"),
    (["connect", "x\r::error::y:80"], r"x\r::error::y"),
    (["connect", "a\x7fb", "80"], r"a\x7fb"),
    (["connect", "a\x9b31mb", "80"], r"a\x9b31mb"),
    (["connect", "\u202eabc", "80"], r"\u202eabc"),
    (["connect", "\U000e0041", "80"], r"\U000e0041"),
    (["connect", "\udcff", "80"], r"\udcff"),
    (["connect", "h", "8\x1b0\n"], r"port '8\x1b0\n' is not a number"),
    (["connect", "h", "80", "more\n::error::y"], r"unexpected word 'more\n::error::y'"),
    (["connect", "h", "80", "--bad\n::error::y"], r"no such option '--bad\n::error::y'"),
    (["connect", "h", "80", "--b\x1b[31m\u202e\udcff"], "no such option"),
    (["connect", "h", "80", "-\n"], r"no such option '-\n'"),
    (["connect", "h", "80", "--timeout", "1\n::error::y"], r"--timeout: '1\n::error::y' is not a duration"),
    (["connect", "h", "80", "--send", "\\\n::error::y"], "none of"),
    (["connect", "h", "80", "--send-hex", "\n::error::y"], r"'\n::error::y' is not pairs"),
    (["connect", "h", "80", "--source", "\n::error::y"], r"\n::error::y"),
    (["echo", "0", "--max-clients", "1\n::error::y"], r"'1\n::error::y' is not a whole number"),
    (["echo", "0", "--once=\n::error::y"], "option '--once' takes no value"),
    (["conn\n::error::ect", "h", "80"], r"no such command 'conn\n::error::ect'"),
    (["\x1b[31mconnect", "h", "80"], r"no such command '\x1b[31mconnect'"),
    (["\udcff"], "no such command"),
    (["--\x1b\n"], r"no such option '--\x1b\n'"),
    *(
        (args, "x" * 40)
        for args in [
            [LONG],
            [f"--{LONG}"],
            ["connect", LONG, "80"],
            ["connect", f"{LONG}.example", "80"],
            ["connect", LONG + "!", "80"],
            ["connect", "h", LONG],
            ["connect", "h", "80", LONG],
            ["connect", "h", "80", f"--{LONG}"],
            ["connect", "h", "80", "--timeout", LONG],
            ["connect", "h", "80", "--send-hex", LONG],
            ["connect", "h", "80", "--source", LONG],
            ["connect", "h", "80", "--send", f"{LONG}\\"],
            ["echo", "0", "--max-clients", LONG],
            ["echo", f"[{LONG}]:0"],
        ]
    ),
    (["connect", "unix:" + LONG], "path of 20000 bytes is longer than 107"),
    (["connect", "\x1b" * 1000, "80"], r"\x1b\x1b\x1b"),
    (["connect", "h", "9" * 20_000], "port 9999999999"),
]
TABLES = {
    "command": COMMANDS,
    "option": OPTIONS,
    "habit": HABITS,
    "value": OPTION_VALUES,
    "relay": RELAYS,
    "word": WORDS,
    "datagram": DATAGRAMS,
    "host": HOSTS,
    "port": PORTS,
    "hostile": HOSTILE,
}
MISTAKES = [pytest.param(*case, id=f"{name}-{n}") for name, table in TABLES.items() for n, case in enumerate(table)]

DURATION_OPTIONS = {
    "connect": ["--connect-timeout", "--idle-timeout", "--timeout", "--wait", "--grace"],
    "listen": ["--accept-timeout", "--for", "--idle-timeout", "--timeout", "--grace"],
    "echo": ["--accept-timeout", "--for", "--idle-timeout", "--timeout"],
    "udp-send": ["--wait", "--timeout"],
    "udp-serve": ["--accept-timeout", "--for", "--idle-timeout", "--timeout"],
}
NO_DURATIONS = ("-1", "nan", "", "1 s")
DURATIONS = [(name, option) for name, options in DURATION_OPTIONS.items() for option in options]


# -- run in this process


@pytest.fixture(autouse=True)
def kept_stdin() -> Iterator[None]:
    """Restore stdin, which a case that is no error would read and close."""
    kept = os.dup(0)
    yield
    os.dup2(kept, 0)
    os.close(kept)


@pytest.mark.fault("negative port", "mistakes of usage")
@pytest.mark.parametrize(("args", "why"), MISTAKES)
def test_mistake(capfd: pytest.CaptureFixture[str], args: list[str], why: str) -> None:
    """A usage error is exit code 2, an empty stdout, and one line that says what is wrong."""
    line = mistake(capfd, args)
    assert why in line
    if why.startswith("netkit"):
        assert line == why
    if all(arg.isascii() for arg in args):
        assert r"\u" not in line  # our own words are ASCII, so nothing of them is escaped


@pytest.mark.fault("odd duration")
@pytest.mark.parametrize(("name", "option"), DURATIONS)
def test_no_duration(capfd: pytest.CaptureFixture[str], name: str, option: str) -> None:
    """Each option with a duration refuses bad durations, and the line begins with the option."""
    address = ["127.0.0.1", "1"] if name in ("connect", "udp-send") else ["0"]
    for value in NO_DURATIONS:
        for spelled in ([option, value], [f"{option}={value}"]):
            line = mistake(capfd, [name, *address, *spelled])
            assert line.startswith(f"netkit {name}: {option}: ")
            assert "is not a duration" in line
    assert "longer than ten years" in mistake(capfd, [name, *address, option, "315360001"])
    if option not in ("--grace", "--wait"):
        for zero in ("0", "0ms", "0.0", "00"):
            assert "no time at all" in mistake(capfd, [name, *address, option, zero])


def test_non_ascii_host_is_shown_and_our_words_are_plain(capfd: pytest.CaptureFixture[str]) -> None:
    """Non-ASCII characters of the user are escaped, and the message itself has none."""
    line = mistake(capfd, ["connect", "b\u00fccher..example", "80"])
    assert r"'b\xfccher..example'" in line
    assert line.count("\\") == 1


# -- run as a process

TYPED = [
    COMMANDS[0],
    (["connect", "127.0.0.1", "1", "--timeout", "nan"], "--timeout: 'nan' is not a duration"),
    (["connect", "ho\x1b[31mst\nX", "80"], r"host 'ho\x1b[31mst\nX' contains"),
    (["connect", os.fsdecode(b"\xff\xfe"), "80"], "is no internationalized name"),
    (["connect", LONG, "80"], "longer than"),
    (["unpack", "hex", r"\x41\q"], "is neither pairs of hex digits nor bytes"),  # pytest makes errors of warnings
]


@pytest.mark.fault("control bytes in a host", "mistakes of usage")
@pytest.mark.parametrize(("args", "why"), TYPED, ids=range(len(TYPED)))
def test_mistake_of_a_process(args: list[str], why: str) -> None:
    """A usage error of a real process is exit code 2 and one line."""
    code, out, err = netkit(*args)
    assert (code, out) == (2, b"")
    assert why in the_line(err)


def test_mistake_on_a_terminal_is_one_line() -> None:
    """On a terminal a usage error is the same one line."""
    code, shown = on_terminal("connect", "--timeot", "3", "h", "1")
    assert code == 2
    assert shown == b"netkit connect: no such option '--timeot', did you mean '--timeout'?\r\n"


# -- no system call for the network

RUN_ALL = """
import json, os, sys
from netkit.cli.app import run
answer = os.dup(1)
codes = [int(run(args)) for args in json.load(sys.stdin)]
os.write(answer, json.dumps(codes).encode())
"""
NETWORK = re.compile(r"connect\(.*AF_INET|sendto\(.*AF_INET|bind\(.*AF_(?:INET|UNIX)")


def traced(cases: list[list[str]], folder: Path) -> tuple[list[int], list[str]]:
    """Run the cases in one process under strace; return their exit codes and the system calls for the network.

    Look-ups of users and hosts may ask a daemon over a unix socket, which does not count as network.
    """
    log = folder / "calls"
    done = subprocess.run(
        [*strace("trace=connect,bind,sendto", log=log), sys.executable, "-c", RUN_ALL],
        input=json.dumps(cases).encode(),
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    return json.loads(done.stdout), [line for line in log.read_text().splitlines() if NETWORK.search(line)]


@pytest.mark.fault("port 0 to dial", "port out of range", "almost IPv4")
def test_mistakes_do_not_reach_the_network(tmp_path: Path) -> None:
    """No usage error leads to a system call that looks up, connects or binds."""
    cases = [args for table in TABLES.values() for args, _ in table]
    cases += [
        [name, *(["127.0.0.1", "1"] if name in ("connect", "udp-send") else ["0"]), option, value]
        for name, option in DURATIONS
        for value in NO_DURATIONS
    ]
    codes, calls = traced(cases, tmp_path)
    assert [args for args, code in zip(cases, codes, strict=True) if code != 2] == []
    assert calls == []


def test_the_trace_sees_the_network(tmp_path: Path) -> None:
    """Valid commands do connect and bind, and the trace shows both."""
    with closed_port() as port:
        codes, calls = traced([["connect", "127.0.0.1", str(port)], ["echo", "127.0.0.1:0", "--", "true"]], tmp_path)
    assert codes == [7, 0]
    assert any("connect(" in call and f"htons({port})" in call for call in calls)
    assert any("bind(" in call and "127.0.0.1" in call for call in calls)


# -- words that look like errors but are valid


@pytest.mark.fault("words that look special")
@pytest.mark.parametrize("text", ["@/etc/passwd", "%s%n ~ *", "-", "--", "--hold"])
def test_text_is_sent_as_it_is(text: str) -> None:
    """TEXT is sent as it is, even if it looks like a file name, a pattern or an option."""
    with peer(read_all) as server:
        assert netkit("connect", "127.0.0.1", str(server.port), "--send", text) == (0, b"", "")
        assert server.result() == text.encode()


@pytest.mark.fault("words that look special")
@pytest.mark.parametrize("path", ["~", "*"])
def test_path_is_taken_as_it_is(path: str, tmp_path: Path) -> None:
    """A path is used as it is, without expansion of ~ and *."""
    importable = dict(os.environ, PYTHONPATH=str(Path(app.__file__).parents[2]))
    code, out, err = netkit("echo", f"unix:{path}", "--", "ls", cwd=tmp_path, env=importable)
    assert (code, out, err) == (0, f"{path}\n".encode(), f"netkit echo: listening on unix:{path}\n")


@pytest.mark.parametrize("option", ["--grace", "--wait"])
def test_zero_that_means_something(option: str) -> None:
    """--grace 0 and --wait 0 are valid."""
    with closed_port() as port:
        code, _, err = netkit("connect", "127.0.0.1", str(port), option, "0")
    assert code == (28 if option == "--wait" else 7)
    assert ("connection refused" if option == "--grace" else ": still ") in the_line(err)


def test_zero_grace_of_listen() -> None:
    """listen accepts --grace 0 too."""
    code, _, err = netkit("listen", "127.0.0.1:0", "--grace", "0", "--accept-timeout", "1ms")
    assert code == 28
    assert "nobody came within 1 ms" in err


def test_hosts_named_like_a_prefix(capfd: pytest.CaptureFixture[str]) -> None:
    """unix: and tls: are prefixes, and hosts of that name can be given as two words."""
    assert "path" in mistake(capfd, ["connect", "unix:"])
    assert "port 80 has no host" in mistake(capfd, ["connect", "tls:80"])
    assert "'tls' is a name" in mistake(capfd, ["connect", "-n", "tls", "80"])
    assert "'unix' is a name" in mistake(capfd, ["connect", "-n", "unix", "80"])


# -- runtime failures: one line each, as for usage errors


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """Bind a port of 127.0.0.1 without listening, so that it refuses connections and stays reserved."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


AFTER = r"after \d+(?:\.\d)? m?s"


@pytest.mark.fault("connection refused")
def test_refused() -> None:
    """A refused connection is exit code 7, with address, reason and time."""
    with closed_port() as port:
        code, out, err = netkit("connect", "127.0.0.1", str(port))
        named = netkit("connect", "-4", f"localhost:{port}")
    assert (code, out) == (7, b"")
    pattern = rf"netkit connect: cannot connect to 127\.0\.0\.1:{port}: connection refused \(127\.0\.0\.1, {AFTER}\)"
    assert re.fullmatch(pattern, the_line(err))
    assert (named.code, named.out) == (7, b"")
    pattern = rf"netkit connect: cannot connect to localhost:{port}: connection refused \(127\.0\.0\.1, {AFTER}\)"
    assert re.fullmatch(pattern, the_line(named.err))


def test_refused_on_a_terminal() -> None:
    """On a terminal a second line gives a hint."""
    with closed_port() as port:
        code, shown = on_terminal("connect", "127.0.0.1", str(port), stdin=subprocess.DEVNULL)
    first, second = shown.decode().split("\r\n", 1)
    assert code == 7
    assert first.startswith(f"netkit connect: cannot connect to 127.0.0.1:{port}: connection refused (")
    assert second.startswith("hint: ")
    assert second.count("\r\n") == 1


@pytest.mark.parametrize("options", [["-q"], ["-q", "-vv"]])
def test_quiet(options: list[str]) -> None:
    """With -q there is no output, only the exit code."""
    with closed_port() as port:
        assert netkit("connect", *options, "127.0.0.1", str(port)) == (7, b"", "")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("unix:{}/nosuch", "unix:{}/nosuch: no such file or directory"),
        ("unix:{}/no\nsuch\x1b[31m", r"unix:{}/no\x0asuch\x1b[31m: no such file or directory"),
        ("unix:{}", "unix:{}: connection refused"),
        ("unix:@netkit/nosuch\u202e", r"unix:@netkit/nosuch\u202e: connection refused"),
    ],
)
def test_no_unix_socket(address: str, shown: str, tmp_path: Path) -> None:
    """A missing unix socket is exit code 7, with its path escaped on one line."""
    code, out, err = netkit("connect", address.format(tmp_path))
    assert (code, out) == (7, b"")
    assert the_line(err) == f"netkit connect: cannot connect to {shown.format(tmp_path)}"


@pytest.mark.fault("port taken or lingering")
@pytest.mark.parametrize("name", SERVERS)
def test_address_in_use(name: str) -> None:
    """A port in use is exit code 45, even if its owner allows to share it."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        port = taken.getsockname()[1]
        words = [str(port)] if name == "upper" else ["127.0.0.1", str(port)]
        code, out, err = netkit(name, *words)
    assert (code, out) == (45, b"")
    assert the_line(err) == f"netkit {name}: cannot listen on 127.0.0.1:{port}: address already in use"


@pytest.mark.fault("wrong family")
@pytest.mark.parametrize(
    ("args", "code", "shown"),
    [
        (["connect", "-4", "::1", "80"], 6, "cannot resolve ::1: no IPv4 address"),
        (["connect", "-6", "127.0.0.1", "80"], 6, "cannot resolve 127.0.0.1: no IPv6 address"),
        (["listen", "-4", "[::1]:0"], 6, "cannot resolve ::1: no IPv4 address"),
        (["connect", "--source", "::1", "127.0.0.1", "80"], 6, "cannot resolve 127.0.0.1: no address of the family"),
        (["connect", "fe80::1%nosuch", "80"], 6, "cannot resolve fe80::1%nosuch: "),
        (["echo", "192.0.2.1:0"], 45, "cannot listen on 192.0.2.1:0: cannot assign requested address"),
        (["connect", "--source", "192.0.2.1", "127.0.0.1", "80"], 45, "cannot use source 192.0.2.1"),
    ],
)
def test_address_that_is_not_to_be_had(args: list[str], code: int, shown: str) -> None:
    """No address of the family is exit code 6, an address of another machine 45."""
    done = netkit(*args)
    assert (done.code, done.out) == (code, b"")
    assert the_line(done.err).startswith(f"netkit {args[0]}: {shown}")


@pytest.mark.fault("zones")
@pytest.mark.parametrize("zone", [os.fsdecode(b"\xff"), "\u00e9", "a\u202eb", "a]b", "z" * 300, "%", "a..b"])
def test_zone_of_no_interface(capfd: pytest.CaptureFixture[str], zone: str) -> None:
    """A zone that no interface can have is a usage error or cannot be resolved."""
    for args in (["connect", f"fe80::1%{zone}", "80"], ["echo", f"fe80::1%{zone}", "0"]):
        code = run(list(args))
        out, err = capfd.readouterr()
        assert (code in (2, 6), out) == (True, ""), err
        the_line(err)
