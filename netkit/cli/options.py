"""Options that many commands share, in bundles: what they say, and what they mean to the core."""

import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

from netkit.cli import types
from netkit.cli.command import gathered, option
from netkit.cli.rules import Case, Values, excluded, needs, one_of
from netkit.core.errors import Invalid
from netkit.output import console
from netkit.output.console import DEFAULT_VIEW, Verbosity, View, emit, same_terminal, say

if TYPE_CHECKING:
    import re

    from netkit.core.access import Network
    from netkit.core.address import Endpoint, Target
    from netkit.core.connection import Handler
    from netkit.core.dial import Dialling
    from netkit.core.events import Observer
    from netkit.core.layer import Layer
    from netkit.core.relay import Ending
    from netkit.core.tls import Security
    from netkit.protocols.url import Url
    from netkit.services.progress import Moving, Show, Shown


class FamilyOptions(NamedTuple):
    """Which addresses count."""

    ipv4: bool
    ipv6: bool
    numeric: bool

    def family(self) -> int:
        """Return the one address family wanted, or AF_UNSPEC."""
        import socket

        return int(socket.AF_INET if self.ipv4 else socket.AF_INET6 if self.ipv6 else socket.AF_UNSPEC)


class Tls(NamedTuple):
    """Whether and how a connection is secured."""

    tls: bool
    cafile: str | None
    cert: str | None
    key: str | None
    servername: str | None
    alpn: tuple[str, ...] | None
    insecure: bool

    def client(self, target: "Endpoint", talk: Verbosity) -> "Callable[[Observer], Layer] | None":
        """Return what makes the handshake of a client; None if there is to be none."""
        if not (self.tls or target.tls):
            return None
        if target.path is not None and self.servername is None and not self.insecure:
            raise Invalid("a unix socket has no name that a certificate could have: --servername NAME says it")
        host = target.host or ("localhost" if target.path is None else "")
        return partial(self.clients(str(target), talk), host)

    def checks(self, targets: "Sequence[Target]", talk: Verbosity) -> "Callable[[str, Observer], Layer] | None":
        """Return what makes the handshake with a host of those targets that want one; None if none does."""
        if not any(target.tls for target in targets):
            return None
        hosts = dict.fromkeys(target.host or "localhost" for target in targets if target.tls)
        return self.clients(", ".join(hosts), talk)

    def clients(self, whom: str, talk: Verbosity) -> "Callable[[str, Observer], Layer]":
        """Return what makes the handshake with a host; ``whom`` is who they are, for the warning of --insecure."""
        if self.insecure:
            emit("unverified", target=whom) if talk.json else say(
                f"{console.program}: the certificate of {whom} is not verified (--insecure)"
            )

        def make(host: str, observe: "Observer") -> "Layer":
            from netkit.core import tls

            return tls.client(self._security(), self.servername or host, observe)

        return make

    def server(self, address: "Endpoint") -> "Callable[[Observer], Layer] | None":
        """Return what makes the handshake of a server; None if there is to be none."""
        if not (self.tls or address.tls):
            return None
        if self.cert is None or self.key is None:
            pair = (
                "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 -subj /CN=localhost"
            )
            hint = f"{pair} -addext subjectAltName=DNS:localhost makes a pair"
            raise Invalid("a TLS server needs --cert and --key", hint=hint)

        def make(observe: "Observer") -> "Layer":
            from netkit.core import tls

            return tls.server(self._security(), observe)

        return make

    def _security(self) -> "Security":
        from netkit.core.tls import Security

        return Security(self.cafile, self.cert, self.key, self.alpn or (), self.insecure)


class Https(NamedTuple):
    """How servers of https URLs are verified, and who we are to the one that was asked for."""

    cafile: str | None
    cert: str | None
    key: str | None
    servername: str | None
    insecure: bool

    def client(self, url: "Url", talk: Verbosity, observe: "Observer") -> "Callable[[Url, bool], Layer]":
        """Return what makes the handshake for a URL, and is told whether it has the origin of this one.

        Certificate, key and name are for this origin alone.
        """

        @cache
        def made(authority: str, host: str, own: bool) -> "Layer":
            return self._tls(own).clients(authority, talk)(host, observe)

        return lambda url, own: made(url.authority, url.endpoint.host or "", own)

    def _tls(self, own: bool) -> Tls:
        ours = (self.cert, self.key, self.servername) if own else (None, None, None)
        return Tls(True, self.cafile, *ours, ("http/1.1",), self.insecure)


class BothTls(NamedTuple):
    """How either side of a relay is secured."""

    cafile: str | None
    cert: str | None
    key: str | None
    servername: str | None
    alpn: tuple[str, ...] | None
    insecure: bool

    def sides(self, address: "Endpoint", target: "Endpoint") -> tuple[Tls, Tls]:
        """Return what is for our clients and what is for the target, which gets what both could have meant.

        But for our own certificate: a server needs one.
        """
        pair = (self.cert, self.key)
        near = Tls(
            address.tls,
            None if target.tls else self.cafile,
            *(pair if address.tls else (None, None)),
            None,
            self.alpn if address.tls else None,
            False,
        )
        far = Tls(
            target.tls,
            self.cafile if target.tls else None,
            *((None, None) if address.tls else pair),
            self.servername,
            None if address.tls and not target.tls else self.alpn,
            self.insecure,
        )
        return near, far


class Clocks(NamedTuple):
    """When patience ends, in seconds."""

    idle_timeout: float | None
    timeout: float | None


class Dial(NamedTuple):
    """How to connect."""

    connect_timeout: float
    source: tuple[str, int] | None
    keepalive: float | None

    def dialling(self, reach: FamilyOptions) -> "Dialling":
        """Return what the core takes."""
        from netkit.core.dial import Dialling

        return Dialling(reach.family(), reach.numeric, self.connect_timeout, self.source)


class Ends(NamedTuple):
    """When a conversation ends."""

    grace: float | None
    hold: bool
    no_shutdown: bool

    def ending(self) -> "Ending":
        """Return what the core takes."""
        from netkit.core.relay import Ending

        grace = Ending().grace if self.grace is None else self.grace
        return Ending(None if self.hold else grace, half_close=not self.no_shutdown)


class Programs(NamedTuple):
    """A program to run over a connection."""

    exec: tuple[str, ...] | None
    sh_exec: str | None

    @property
    def argv(self) -> tuple[str, ...] | None:
        """The program with its arguments; None if there is none."""
        return self.exec if self.sh_exec is None else ("/bin/sh", "-c", self.sh_exec)


class Recorded(NamedTuple):
    """What is kept or shown of the bytes on the wire."""

    log: str | None
    hexdump: bool

    def around(self, handler: "Handler", talk: Verbosity) -> "Handler":
        """Return the handler with all that goes over its connections recorded. Raises Failure WRITE."""
        if self.log is None and not self.dumps(talk):
            return handler
        from netkit.output.recording import HexDump, Log
        from netkit.services.recorder import recording

        log = Log(self.log) if self.log is not None else None
        return recording(handler, log, HexDump() if self.dumps(talk) else None)

    def dumps(self, talk: Verbosity) -> bool:
        """Whether there is a dump on stderr."""
        return self.hexdump or (talk.verbose > 2 and not (talk.json or talk.quiet))


class Serving(NamedTuple):
    """What a server tells, whom it serves, and when it ends by itself."""

    port_file: str | None
    print_port: bool
    accept_timeout: float | None
    duration: float | None
    until: "re.Pattern[bytes] | None"
    allow: "tuple[Network, ...]"
    deny: "tuple[Network, ...]"
    stats: bool

    def admits(self) -> Callable[[str], bool] | None:
        """Return the question whether a host may come, None if all may."""
        if not self.allow and not self.deny:
            return None
        from netkit.core.access import Access

        return Access(self.allow, self.deny).admits


class Clients(NamedTuple):
    """How many connections a server takes, and how."""

    once: bool = False
    max_clients: int | None = None
    max_conns: int | None = None
    greet: bytes | None = None
    keepalive: float | None = None
    mode: int | None = None


class Transport(NamedTuple):
    """Which protocols a server serves, TCP if neither is asked for."""

    udp: bool
    both: bool


class Output(NamedTuple):
    """How datagrams are shown."""

    output: str | None
    raw: bool

    def kind(self, talk: Verbosity) -> str:
        """Return the form that was asked for, or is meant."""
        return self.output or ("json" if talk.json else "raw")


class Progress(NamedTuple):
    """Whether something shows how far it is."""

    progress: bool
    no_progress: bool

    def after(self) -> float | None:
        """Return the seconds after which something on stderr may move, or None if nothing ever does."""
        if self.no_progress or not os.isatty(2):
            return None
        return 0.0 if self.progress else 0.5

    def show(self, talk: Verbosity) -> "Show | None":
        """What shows transfers on stderr's terminal, if anything does."""
        after = self.after()
        return None if after is None or talk.quiet or talk.json else showing(after)

    def shown(self, talk: Verbosity, recorded: Recorded, *, reads: bool, writes: bool, long: bool = True) -> "Shown":
        """Return what shows the transfers of one conversation.

        It ``reads`` stdin and ``writes`` stdout, or not, and sends as much as it reads or, unless ``long``, maybe more.
        """
        from netkit.services.progress import Shown, Ways

        ways = Ways(reads, writes, long)
        seen = (ways.sends or ways.receives) and not recorded.dumps(talk)
        show = self.show(talk) if seen else None
        return Shown(show, ways, (lambda: console.before_line()) if same_terminal(1, 2) else None)


def showing(after: float) -> "Show":
    """Return what shows transfers on stderr's terminal, after so many seconds; before, it loads nothing."""

    async def show(moving: "Moving") -> None:
        from netkit.core.kernel import now, sleep

        begun = now()
        await sleep(after)
        from netkit.output.terminal.progress import show_transfers

        await show_transfers(moving, begun, coloured=DEFAULT_VIEW.coloured(2))

    return show


def _is_unix(values: Values) -> bool:
    return values.get("socket") is not None or getattr(values.get("address"), "path", None) is not None


def _is_secured(values: Values) -> object:
    named = (values.get("address"), values.get("target"), *values.get("targets", ()))
    server = values.get("server") or ""
    return values.get("tls") or server.startswith("tls:") or any(each.tls for each in named if each is not None)


UNIX = Case("a unix socket", _is_unix)

SECURED = Case("--tls or a tls: address", _is_secured)

COMMAND = Case("COMMAND", lambda values: values["command"])

FORMAT = Case("FORMAT", lambda values: values["form"] is not None)

DUMP = Case("a dump on stderr", lambda values: Recorded(None, values["hexdump"]).dumps(_verbosity(values)))

_TERMINAL = Case("a terminal on stderr", lambda values: os.isatty(2))


def _verbosity(values: Values) -> Verbosity:
    return Verbosity(values["verbose"], values["quiet"], values["json"])


class ViewOptions(NamedTuple):
    """Colour, and whether something moves."""

    color: str | None
    progress: bool
    no_progress: bool

    def view(self) -> View:
        """Return what is shown beside plain lines."""
        return View(self.color, Progress(self.progress, self.no_progress).after())


_progress_choices = (
    option("--progress", is_flag=True, section="Talk", help="Show progress on the terminal at once."),
    option("--no-progress", is_flag=True, section="Talk", help="Show no progress."),
)

_progress_rules = (
    one_of("--progress", "--no-progress"),
    needs("--progress", on=_TERMINAL, why="stderr is no terminal"),
)

progress_options = gathered(
    "progress",
    Progress,
    *_progress_choices,
    rules=[*_progress_rules, one_of("--quiet", "--progress"), one_of("--json", "--progress")],
)

color_option = option(
    "--color",
    type=types.choice("auto", "always", "never", name="WHEN"),
    section="Talk",
    help="Colour on a terminal (auto), always or never.",
)

view_options = gathered(
    "view",
    ViewOptions,
    color_option,
    *_progress_choices,
    rules=_progress_rules,
)

talk_options = gathered(
    "talk",
    Verbosity,
    option("-v", "--verbose", count=True, section="Talk", help="Say what happens; -vv also every address tried."),
    option("-q", "--quiet", is_flag=True, section="Talk", help="Say nothing; the exit code tells."),
    option("--json", is_flag=True, section="Talk", help="Say what happens as JSON Lines, failures included."),
    rules=[one_of("--quiet", "--json")],
)

json_option = option("--json", is_flag=True, section="Talk", help="Answer as JSON Lines.")

quiet_option = option("-q", "--quiet", is_flag=True, section="Talk", help="Say nothing; the exit code tells.")

max_size_option = option(
    "--max-size",
    type=types.SIZE,
    default=16 << 20,
    section="Data",
    help="The largest record, or format, in bytes (63); 16M unless given.",
)

reach_options = gathered(
    "reach",
    FamilyOptions,
    option("-4", "ipv4", is_flag=True, section="Addresses", help="IPv4 alone."),
    option("-6", "ipv6", is_flag=True, section="Addresses", help="IPv6 alone."),
    option("-n", "--numeric", is_flag=True, section="Addresses", help="No names: addresses alone are looked at."),
    rules=[one_of("-4", "-6")],
)

_identity_choices = (
    option("--cert", type=types.FILE, section="TLS", help="Our certificate and its chain (PEM)."),
    option("--key", type=types.FILE, section="TLS", help="The key of our certificate (PEM, not encrypted)."),
    option("--servername", type=types.HOST, section="TLS", help="The name to ask for and to verify."),
    option("--insecure", is_flag=True, section="TLS", help="Do not verify the peer's certificate."),
)

_tls_choices = (
    option(
        "--cafile",
        type=types.FILE,
        section="TLS",
        help="Trust the authorities in FILE (PEM); a server then wants certificates.",
    ),
    *_identity_choices,
    option("--alpn", type=types.ALPN, section="TLS", help="Protocols to agree on, in the order of preference."),
)

_tls_option = option("--tls", is_flag=True, section="TLS", help="Speak TLS, as with tls: in front of the address.")

_identity_rules = (needs("--key", on="--cert"), one_of("--insecure", "--cafile"))

_BARE = "without --tls or tls: nothing is secured"

_tls_rule = needs("--cafile", "--cert", "--key", "--servername", "--alpn", "--insecure", on=SECURED, why=_BARE)

tls_options = gathered("tls", Tls, _tls_option, *_tls_choices, rules=[_tls_rule, *_identity_rules])

server_tls_options = gathered(
    "tls",
    Tls,
    _tls_option,
    *_tls_choices,
    rules=[
        _tls_rule,
        excluded(
            "--servername", "--insecure", by=Case("a server", lambda values: True), why="a server has the certificate"
        ),
    ],
)

https_options = gathered(
    "https",
    Https,
    option("--cafile", type=types.FILE, section="TLS", help="Trust the authorities in FILE (PEM)."),
    *_identity_choices,
    rules=[
        excluded(
            *("--servername", "--cert", "--key"),
            by=Case("an http URL", lambda values: values["url"].scheme != "https"),
            why="the URL is not https",
        ),
        *_identity_rules,
    ],
)

both_tls_options = gathered(
    "tls",
    BothTls,
    *_tls_choices,
    rules=[
        needs("--cafile", "--cert", "--key", "--alpn", on=SECURED, why=_BARE),
        needs(
            *("--servername", "--insecure"),
            on=Case("a tls: address as TARGET", lambda values: values["target"].tls),
            why=_BARE,
        ),
        needs(Case("--key", lambda values: values["key"] and not values["address"].tls), on="--cert"),
        one_of("--insecure", "--cafile"),
    ],
)

timeout_option = option("--timeout", type=types.DURATION, section="Time", help="Give everything up (28) after D.")

clock_options = gathered(
    "clocks",
    Clocks,
    option(
        "--idle-timeout",
        type=types.DURATION,
        section="Time",
        help="Give a connection up (28) once no byte has moved either way for D.",
    ),
    timeout_option,
)

datagram_clock_options = gathered(
    "clocks",
    Clocks,
    option("--idle-timeout", type=types.DURATION, section="Time", help="Give up (28) once no datagram has come for D."),
    timeout_option,
)

connect_timeout_option = option(
    "-w",
    "--connect-timeout",
    type=types.DURATION,
    default=10.0,
    section="Time",
    help="Time for resolving, connecting and TLS together (28); 10s unless given.",
)

source_option = option("--source", type=types.SOURCE, section="Addresses", help="Connect from this address and port.")

dial_options = gathered(
    "dial",
    Dial,
    connect_timeout_option,
    source_option,
    option(
        "--keepalive", type=types.DURATION, section="Time", help="Probe a peer that was silent for D (TCP keepalive)."
    ),
    rules=[
        excluded("-4", "-6", "-n", "--source", by=UNIX, why="a unix socket has no IP address"),
        excluded("--keepalive", by=UNIX, why="a unix socket has no keepalive"),
    ],
)

ending_options = gathered(
    "ends",
    Ends,
    option(
        "--grace",
        type=types.DURATION_OR_ZERO,
        section="Ending",
        help="Once the peer has ended, leave when our input has been idle for D; 500ms unless given.",
    ),
    option("--hold", is_flag=True, section="Ending", help="Once the peer has ended, wait for our input's end instead."),
    option(
        "--no-shutdown",
        is_flag=True,
        section="Ending",
        help="Do not send our input's end; leave when the peer ends.",
    ),
    rules=[one_of("--grace", "--hold")],
)

program_options = gathered(
    "programs",
    Programs,
    option(
        "--exec",
        type=types.COMMAND,
        section="Data",
        help="Run CMD over each connection, its stdin and stdout in place of ours; its words are split as in a shell.",
    ),
    option("--sh-exec", type=types.SHELL_COMMAND, section="Data", help="The same, and CMD is run by the shell."),
)

record_options = gathered(
    "recorded",
    Recorded,
    option(
        "--hexdump",
        is_flag=True,
        section="Talk",
        help="Dump the bytes of both directions in hex on stderr, as -vvv does.",
    ),
    option("--log", type=types.FILE, section="Talk", help="Append the bytes of both directions to FILE as JSON Lines."),
    rules=[one_of("--hexdump", "--json"), one_of("--hexdump", "--quiet")],
)

stats_option = option("--stats", is_flag=True, section="Talk", help="Say bytes and time at the end, as JSON.")

raw_option = option("--raw", is_flag=True, section="Data", help="Let control bytes through to a terminal.")

_PRINTABLE = ("hex", "json", "none")


def _form(name: str) -> Case:
    return Case(f"--output {name}", lambda values: Output(values["output"], False).kind(_verbosity(values)) == name)


output_options = gathered(
    "output",
    Output,
    option(
        "--output",
        type=types.choice("raw", "lines", "hex", "json", "none"),
        section="Data",
        help="Print datagrams in this form; raw bytes unless given, with --json json.",
    ),
    raw_option,
    rules=[excluded("--raw", by=_form(name), why=f"--output {name} writes no control bytes") for name in _PRINTABLE],
)

transport_options = gathered(
    "transport",
    Transport,
    option("--udp", is_flag=True, section="Serving", help="Serve UDP datagrams instead of TCP."),
    option("--both", is_flag=True, section="Serving", help="Serve TCP and UDP on one port number."),
    rules=[
        one_of("--udp", "--both"),
        excluded("--udp", "--both", by=SECURED, why="datagrams are not secured"),
        excluded(
            *("--once", "--max-clients", "--max-conns", "--greet", "--keepalive", "--mode", "--idle-timeout"),
            by="--udp",
            why="datagrams make no connections",
        ),
        excluded(
            *("--once", "--max-clients", "--accept-timeout"),
            by="--both",
            why="there are connections and datagrams",
        ),
    ],
)

serving_options = gathered(
    "serving",
    Serving,
    option("--port-file", type=types.FILE, section="Serving", help="Keep the port number in FILE while serving."),
    option("--print-port", is_flag=True, section="Serving", help="Print the port number as the first line of stdout."),
    option(
        "--allow",
        type=types.CIDR,
        multiple=True,
        section="Serving",
        help="Serve clients of this network alone; repeatable.",
    ),
    option(
        "--deny",
        type=types.CIDR,
        multiple=True,
        section="Serving",
        help="Turn away clients of this network; repeatable.",
    ),
    option(
        "--until",
        type=types.REGEX,
        section="Ending",
        help="Stop serving, with 0, once the data of a client matches.",
    ),
    option("--stats", is_flag=True, section="Talk", help="Say what was served at the end, as JSON."),
    option("--accept-timeout", type=types.DURATION, section="Time", help="Give up (28) if nobody came within D."),
    option("--for", "duration", type=types.DURATION, section="Time", help="Stop serving after D; exit 0."),
)

client_options = gathered(
    "clients",
    Clients,
    option("--once", is_flag=True, section="Serving", help="Serve one client, then exit."),
    option("--max-clients", type=types.COUNT, section="Serving", help="Serve N clients, then exit."),
    option(
        "--max-conns",
        type=types.COUNT,
        section="Serving",
        help="Serve at most N clients at one time, the next waits; 4096 unless given.",
    ),
    option("--mode", type=types.MODE, section="Serving", help="The mode of a unix socket's file; 600 unless given."),
    option("--greet", type=types.TEXT, section="Data", help="Send TEXT first; {host} and {port} are the client's."),
    option(
        "--keepalive", type=types.DURATION, section="Time", help="Probe a client that was silent for D (TCP keepalive)."
    ),
    rules=[
        one_of("--once", "--max-clients"),
        needs("--mode", on=UNIX, why="only a unix socket has a mode"),
        excluded("--port-file", "--print-port", by=UNIX, why="a unix socket has no port"),
        excluded("--allow", "--deny", by=UNIX, why="a unix socket has no IP address"),
        excluded("--keepalive", by=UNIX, why="a unix socket has no keepalive"),
    ],
)
