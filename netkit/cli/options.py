"""Groups of options that many commands share, and the records of their values, which translate them for the core."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from netkit.cli import types
from netkit.cli.command import ADDRESSES, DATA, ENDING, OUTPUT, TIME, TLS, Decorator, chained, gathered
from netkit.cli.proxies import HTTPS_PROXY
from netkit.cli.rules import Case, Term, Values, excluded, needs, one_of
from netkit.core.errors import Invalid
from netkit.core.record import Record
from netkit.output import console
from netkit.output.console import DEFAULT_VIEW, Verbosity, View, emit, same_terminal, say

if TYPE_CHECKING:
    from netkit.core.address import Endpoint
    from netkit.core.connection import Handler
    from netkit.core.dial import Connect, Dialling
    from netkit.core.events import Observer
    from netkit.core.flow import Transfer
    from netkit.core.layer import Layer
    from netkit.core.relay import Ending, Input, Shutdown
    from netkit.core.stream import Connection
    from netkit.core.tls_context import Security
    from netkit.services.join import Conversation, Terminal
    from netkit.services.progress import Moving, Show, Shown, Tell


class AddressOptions(Record):
    """Which IP addresses are used, from which of our own, and for how many seconds they are tried."""

    ipv4: bool = False
    ipv6: bool = False
    numeric: bool = False
    source: tuple[str, int] | None = None
    interface: str | None = None
    connect_timeout: float = 10.0

    def family(self) -> int:
        """The one address family wanted, or AF_UNSPEC."""
        import socket

        return int(socket.AF_INET if self.ipv4 else socket.AF_INET6 if self.ipv6 else socket.AF_UNSPEC)

    def check(self, host: str | None) -> None:
        """Raise Invalid for a name if only addresses are accepted."""
        if self.numeric and host:
            from netkit.core.lookup import check_numeric

            check_numeric(host)

    def dialling(self, layers: "Sequence[Layer]" = (), connect: "Connect | None" = None) -> "Dialling":
        """The core's settings to dial by ``connect`` and with ``layers``."""
        from netkit.core.dial import Dialling

        return Dialling(
            self.family(),
            self.numeric,
            self.connect_timeout,
            self.source,
            layers,
            connect,
            interface=self.interface,
        )


class TlsOptions(Record):
    """Whether and how connections use TLS."""

    tls: bool = False
    cafile: str | None = None
    cert: str | None = None
    key: str | None = None
    servername: str | None = None
    alpn: tuple[str, ...] | None = None
    insecure: bool = False
    key_password_file: str | None = None
    tls_min: str = "1.2"
    tls_max: str | None = None
    fingerprint: tuple[str, ...] = ()
    show_certs: bool = False
    self_signed: str | None = None

    @property
    def verifies_name(self) -> bool:
        """Whether the peer's certificate must be for its name."""
        return not (self.insecure or self.fingerprint)

    @property
    def files(self) -> tuple[str | None, ...]:
        """The input files that the options name."""
        return self.cafile, self.cert, self.key, self.key_password_file

    def warn(self, whom: str, verbosity: Verbosity) -> None:
        """With --insecure, warn that ``whom`` is not verified."""
        if not self.insecure:
            return
        if verbosity.json:
            emit("unverified", target=whom)
        else:
            say(f"{console.program}: the certificate of {whom} is not verified (--insecure)")

    def client(self, host: str, observe: "Observer", *, starttls: bool) -> "Layer":
        """The TLS layer to the server ``host``; --show-certs writes its certificates. Raises Failure READ.

        ``starttls`` is whether the command has --starttls, which a hint may then name.
        """
        from netkit.core import tls

        if self.show_certs:
            from netkit.output.certificate import showing

            observe = showing(observe)
        options = {"--cafile", "--fingerprint", "--servername", "--tls-min", *(["--starttls"] if starttls else [])}
        return tls.client(self._security(), self.servername or host, observe, options=options)

    def server(self, observe: "Observer") -> "Layer":
        """The TLS layer of a server. Raises Failure READ, and Invalid if --self-signed lacks its library."""
        from netkit.core import tls

        if self.self_signed is None:
            return tls.server(self._security(), observe)
        from netkit.protocols.self_signed import made

        with made(self.self_signed, observe) as (cert, key):
            return tls.server(self._security()._replace(cert=cert, key=key), observe)

    def check_server(self) -> None:
        """Raise Invalid if a TLS server has no certificate."""
        if self.tls and not self.self_signed and (self.cert is None or self.key is None):
            pair = (
                "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 -subj /CN=localhost"
            )
            hint = f"{pair} -addext subjectAltName=DNS:localhost makes a pair"
            raise Invalid("a TLS server needs --cert and --key, or --self-signed NAME", hint=hint)

    def wanted(self, address: "Endpoint", *, implied: bool = False) -> "TlsOptions":
        """These options, with ``tls`` set if the address begins with tls:, or if it is ``implied``."""
        return self._replace(tls=self.tls or address.tls or implied)

    def share(self, tls: bool, *names: str) -> "TlsOptions":
        """A copy with only the options ``names``, for one of several peers."""
        return TlsOptions(tls, **{name: getattr(self, name) for name in names})

    def sides(self, near: bool, far: bool, proxy: bool = False) -> "tuple[TlsOptions, TlsOptions]":
        """The options for a relay's clients, who use TLS if ``near``, and for its target, if ``far``.

        If both use TLS, --cafile is for the target, our certificate for the clients, and --alpn for both. A ``proxy``
        with TLS uses the --cafile of the target.
        """
        trusts = far or proxy
        ours = ("cert", "key", "key_password_file", "alpn")
        both = ("tls_min", "tls_max")
        for_clients = (*both, "self_signed", *(ours if near else ()), *(() if trusts else ("cafile",)))
        for_target = (
            *(*both, "servername", "insecure", "fingerprint"),
            *(("cafile",) if trusts else ()),
            *(("alpn",) if far else ()),
            *(() if near else ours),
        )
        return self.share(near, *for_clients), self.share(far, *for_target)

    def for_url(self, own: bool) -> "TlsOptions":
        """The options for a URL's server. Only an ``own`` one, of a typed URL, gets our certificate and a name."""
        ours = ("cert", "key", "key_password_file", "servername") if own else ()
        all_servers = ("cafile", "insecure", "fingerprint", "tls_min", "tls_max")
        return self.share(True, *all_servers, *ours)._replace(alpn=("http/1.1",))

    def _security(self) -> "Security":
        from netkit.core.tls_context import Security

        return Security(
            cafile=self.cafile,
            cert=self.cert,
            key=self.key,
            alpn=self.alpn or (),
            insecure=self.insecure,
            password_file=self.key_password_file,
            oldest=self.tls_min,
            newest=self.tls_max,
            fingerprints=self.fingerprint,
        )


class EndingOptions(Record):
    """When a conversation ends."""

    grace: float | None
    hold: bool
    no_shutdown: bool
    shutdown_after: float | None
    send_only: bool

    def ending(self, input: "Input", shutdown: "Shutdown", *, with_peer: bool = False) -> "Ending":
        """The core's Ending; ``shutdown`` says when to send our end if no option does."""
        from netkit.core.relay import AT_ONCE, NEVER, Ending, Shutdown
        from netkit.services.join import is_file

        if self.send_only:
            shutdown = AT_ONCE
        elif self.no_shutdown:
            shutdown = NEVER
        elif self.shutdown_after is not None:
            shutdown = Shutdown(self.shutdown_after, self.shutdown_after)
        return Ending(input, shutdown, self.grace, self.hold, self.send_only, with_peer, asks=not is_file(input))


class ProgramOptions(Record):
    """A program to run over a connection."""

    exec: tuple[str, ...] | None
    sh_exec: str | None

    @property
    def argv(self) -> tuple[str, ...] | None:
        """The program and its arguments, or None."""
        return self.exec if self.sh_exec is None else ("/bin/sh", "-c", self.sh_exec)

    def joining(
        self,
        open_terminal: "Callable[[], Terminal]",
        conversation: "Conversation",
        finished: Callable[[int], None],
        *,
        alone: bool = True,
    ) -> "Handler":
        """The handler that joins connections to the program, or to the terminal if there is none.

        ``finished`` gets the program's exit code. Raises Failure if the program is not found.
        """
        if self.argv is None:
            from netkit.services.join import joining

            return joining(open_terminal, conversation)
        from netkit.services.exec import running

        return running(self.argv, conversation, finished, alone=alone)


class RecordOptions(Record):
    """Whether the data of connections is logged or dumped."""

    log: str | None
    hexdump: bool

    def around(self, handler: "Handler", verbosity: Verbosity) -> "Handler":
        """Wrap a handler to record the data of its connections. Raises Failure WRITE."""
        record = self.recording(verbosity)
        return handler if record is None else lambda stream: handler(record(stream))

    def recording(self, verbosity: Verbosity) -> "Callable[[Connection], Connection] | None":
        """A function that wraps a connection to record it, or None. Raises Failure WRITE."""
        if self.log is None and not self.dumps(verbosity):
            return None
        from netkit.output.recording import HexDump, Log
        from netkit.services.recorder import recording

        log = Log(self.log) if self.log is not None else None
        return recording(log, HexDump() if self.dumps(verbosity) else None)

    def dumps(self, verbosity: Verbosity) -> bool:
        """Whether a hex dump goes to stderr."""
        return self.hexdump or (verbosity.verbose > 2 and not (verbosity.json or verbosity.quiet))


class OutputOptions(Record):
    """How datagrams are shown."""

    output: str | None
    raw: bool

    def kind(self, verbosity: Verbosity) -> str:
        """The form: --output, or the default."""
        return self.output or ("json" if verbosity.json else "lines" if os.isatty(1) else "raw")


class ProgressOptions(Record):
    """Whether progress is shown."""

    progress: bool
    no_progress: bool

    def after(self) -> float | None:
        """The seconds after which stderr may show progress, or None for never."""
        if self.no_progress or not os.isatty(2):
            return None
        return 0.0 if self.progress else 0.5

    def show_and_tell(self, verbosity: Verbosity) -> "tuple[Show | None, Tell | None]":
        """The functions that show transfers on stderr's terminal, and that sum them up if they were shown, or None."""
        after = self.after()
        if after is None or verbosity.quiet or verbosity.json:
            return None, None

        def tell(transfers: Sequence["Transfer"], seconds: float, acknowledges: bool) -> None:
            if seconds >= after:
                from netkit.output.rate import outcome

                console.say(outcome(transfers, seconds, acknowledges=acknowledges))

        return showing(after), None if verbosity.verbose else tell  # -v sums them up anyway

    def shown(
        self, verbosity: Verbosity, record: RecordOptions, *, reads: bool, writes: bool, long: bool = True
    ) -> "Shown":
        """How to show the transfers of a conversation.

        ``reads`` and ``writes`` say whether it uses stdin and stdout. Unless ``long``, it may send more than it reads.
        """
        from netkit.services.progress import Shown, Ways

        ways = Ways(reads, writes, long)
        seen = ways.moves and not record.dumps(verbosity)
        show, tell = self.show_and_tell(verbosity) if seen else (None, None)
        return Shown(show, tell, ways, self.wiping() if same_terminal(1, 2) else None)

    def wiping(self) -> Callable[[], bytes]:
        """A function that returns the bytes to erase the picture, if there is one, on stdout's terminal."""
        return (lambda: console.before_line()) if same_terminal(1, 2) else bytes


def showing(after: float) -> "Show":
    """Show transfers on stderr's terminal after ``after`` seconds. Its modules are not loaded before."""

    async def show(moving: "Moving") -> None:
        from netkit.core.kernel import now, sleep

        begun = now()
        await sleep(after)
        from netkit.output.terminal.progress import show_transfers

        await show_transfers(moving, begun, coloured=DEFAULT_VIEW.coloured(2))

    return show


def _view(color: str | None, progress: bool, no_progress: bool) -> View:
    return View(color, ProgressOptions(progress, no_progress).after())


def _is_unix(values: Values) -> bool:
    return values.get("socket") is not None or getattr(values.get("address"), "path", None) is not None


def _is_secured(values: Values) -> object:
    named = (values.get("address"), values.get("target"), *values.get("targets", ()))
    return values.get("tls") or any(each.tls for each in named if each is not None)


def _asks_secured(values: Values) -> object:
    server = values["server"] or ""
    return _is_secured(values) or server.startswith("tls:") or _asks_by_https(values)


def _asks_by_https(values: Values) -> object:
    return (values["server"] or "").lower().startswith("https:")


def _verbosity(values: Values) -> Verbosity:
    return Verbosity(values["verbose"], values["quiet"], values["json"])


UNIX = Case("a unix socket", _is_unix)
UDP = Case("a udp: address", lambda values: values["address"].udp)
SECURED = Case("--tls or a tls: address", _is_secured)
SECURED_SERVER = Case("--tls, or a tls: or https: server", _asks_secured)
HTTPS_SERVER = Case("an https: server", _asks_by_https)
COMMAND = Case("COMMAND", lambda values: values["command"])
FORMAT = Case("FORMAT", lambda values: values["form"] is not None)
DUMP = Case("a dump on stderr", lambda values: RecordOptions(None, values["hexdump"]).dumps(_verbosity(values)))
_TERMINAL = Case("a terminal on stderr", lambda values: os.isatty(2))

_progress_choices = (
    OUTPUT.option("--progress", help="Show progress from the start."),
    OUTPUT.option("--no-progress", help="Do not show progress."),
)

_progress_rules = (
    one_of("--progress", "--no-progress"),
    needs("--progress", on=_TERMINAL, why="stderr is no terminal"),
)

progress_options = gathered(
    "progress",
    ProgressOptions,
    *_progress_choices,
    rules=[*_progress_rules, one_of("--quiet", "--progress"), one_of("--json", "--progress")],
)

color_option = OUTPUT.option(
    "--color",
    type=types.choice("auto", "always", "never", name="WHEN"),
    help="Use colour on a terminal (auto), always or never.",
)

view_options = gathered("view", _view, color_option, *_progress_choices, rules=_progress_rules)
quiet_option = OUTPUT.option("-q", "--quiet", help="Print no messages; see the exit code.")

verbosity_options = gathered(
    "verbosity",
    Verbosity,
    OUTPUT.option("-v", "--verbose", count=True, help="Print what happens; -vv also each address tried."),
    quiet_option,
    OUTPUT.option("--json", help="Print events and failures as JSON Lines."),
    rules=[one_of("--quiet", "--json")],
)

json_option = OUTPUT.option("--json", help="Print the answer as JSON Lines.")

max_size_option = DATA.option(
    "--max-size",
    type=types.SIZE,
    default=16 << 20,
    help="Exit with 63 if a record or a format is longer (default: 16M).",
)

_version_choices = (
    ADDRESSES.option("-4", "ipv4", help="Use IPv4 only."),
    ADDRESSES.option("-6", "ipv6", help="Use IPv6 only."),
)

version_options = gathered("addresses", AddressOptions, *_version_choices, rules=[one_of("-4", "-6")])

family_options = gathered(
    "addresses",
    AddressOptions,
    *_version_choices,
    ADDRESSES.option("-n", "--numeric", help="Accept only addresses, no names."),
    rules=[one_of("-4", "-6")],
)

_cafile_option = TLS.option("--cafile", type=types.FILE, help="Trust the authorities in FILE (PEM).")
_server_cafile_option = TLS.option(
    "--cafile", type=types.FILE, help="Require clients to have certificates of the authorities in FILE (PEM)."
)
_relay_cafile_option = TLS.option(
    "--cafile", type=types.FILE, help="Trust the authorities in FILE (PEM); a server then requires certificates."
)
_pair_choices = (
    TLS.option("--cert", type=types.FILE, help="Present the certificate in FILE, with its chain (PEM)."),
    TLS.option("--key", type=types.FILE, help="Private key of the certificate (PEM)."),
    TLS.option(
        "--key-password-file", type=types.FILE, help="Decrypt the key with the password in the first line of FILE."
    ),
)
_peer_choices = (
    TLS.option("--servername", type=types.HOST, help="Ask for this server name (SNI), and verify it."),
    TLS.option(
        "--fingerprint",
        type=types.FINGERPRINT,
        multiple=True,
        help="Accept only the certificate with this SHA-256, whatever its names and dates; repeatable.",
    ),
    TLS.option("--insecure", help="Do not verify the peer's certificate."),
)
_version_range = (
    TLS.option(
        "--tls-min",
        type=types.TLS_VERSION,
        default="1.2",
        help="Minimum version of TLS: 1.0, 1.1, 1.2 or 1.3 (default: 1.2).",
    ),
    TLS.option("--tls-max", type=types.TLS_VERSION, help="Maximum version of TLS (default: 1.3)."),
)
_self_signed_option = TLS.option(
    "--self-signed", type=types.HOST, help="Make a certificate for this name, and print its fingerprint."
)
_alpn_option = TLS.option(
    "--alpn", type=types.ALPN, help="Agree on one of these protocols (ALPN), the preferred first."
)
_tls_option = TLS.option("--tls", help="Use TLS, as with tls: before the address.")

_BARE = "without --tls or tls: nothing is secured"
SECURED_LATER = (SECURED, "--starttls")
BARE_LATER = "without --tls, tls: or --starttls nothing is secured"
_AT_ONCE = "TLS begins at once"
_A_SERVER = Case("a server", lambda values: True)
_OF_ALL = ("--cert", "--key", "--key-password-file", "--tls-min", "--tls-max")
_OF_CLIENTS = ("--servername", "--fingerprint", "--insecure")


_version_rule = excluded(
    "--tls-max",
    by=Case("a newer --tls-min", lambda values: values["tls_max"] and values["tls_max"] < values["tls_min"]),
    why="--tls-min is newer (default: 1.2)",
)
_key_rules = (needs("--key", on="--cert"), needs("--key-password-file", on="--cert"))
_trust_rule = one_of("--insecure", "--cafile", "--fingerprint")
_made_rules = (one_of("--self-signed", "--key"), one_of("--self-signed", "--cert"))


def _client_tls_options(*ways: Term, trusting: tuple[Term, ...] = (), why: str) -> Decorator:
    """The TLS options of clients. ``ways`` are the terms that turn TLS on; ``trusting`` ones also allow --cafile."""
    return gathered(
        "tls",
        TlsOptions,
        _tls_option,
        _cafile_option,
        *_pair_choices,
        *_peer_choices,
        _alpn_option,
        *_version_range,
        rules=[
            needs("--cafile", on=(*ways, *trusting), why=why),
            needs(*_OF_ALL, *_OF_CLIENTS, "--alpn", on=ways, why=why),
            *_key_rules,
            _trust_rule,
            _version_rule,
        ],
    )


# For a command with --server.
question_tls_options = chained(
    _client_tls_options(SECURED_SERVER, why="without --tls, tls: or https: nothing is secured"),
    rules=[
        excluded("--tls", by=HTTPS_SERVER, why="https is secured anyway"),
        excluded("--alpn", by=HTTPS_SERVER, why="https is asked by HTTP/1.1"),
        needs("--tls", on="--server", why="without --server nothing is secured"),
    ],
)
# For commands with --starttls and --proxy.
client_tls_options = chained(
    _client_tls_options(*SECURED_LATER, trusting=(HTTPS_PROXY,), why=BARE_LATER),
    rules=[excluded("--starttls", by=SECURED, why=_AT_ONCE)],
)

server_tls_options = gathered(
    "tls",
    TlsOptions,
    _tls_option,
    _server_cafile_option,
    *_pair_choices,
    _self_signed_option,
    _alpn_option,
    *_version_range,
    rules=[
        needs("--cafile", *_OF_ALL, "--self-signed", "--alpn", on=SECURED, why=_BARE),
        *_made_rules,
        *_key_rules,
        _version_rule,
    ],
)

https_options = gathered(
    "tls",
    TlsOptions,
    _cafile_option,
    *_pair_choices,
    *_peer_choices,
    *_version_range,
    rules=[
        excluded(
            *("--servername", "--cert", "--key", "--key-password-file"),
            by=Case("an http URL", lambda values: all(url.scheme != "https" for url in values["urls"])),
            why="the URL is not https",
        ),
        *_key_rules,
        _trust_rule,
        _version_rule,
    ],
)

_TO_TLS = Case("a tls: address as TARGET", lambda values: values["target"].tls)
_RELAY_SECURED = (Case("a tls: address", _is_secured), "--starttls")
_RELAY_BARE = "without tls: or --starttls nothing is secured"
_MYSQL = "a client of mysql logs in by the greeting that came before TLS"

relay_tls_options = gathered(
    "tls",
    TlsOptions,
    _relay_cafile_option,
    *_pair_choices,
    _self_signed_option,
    *_peer_choices,
    _alpn_option,
    *_version_range,
    rules=[
        excluded("--starttls", by=_TO_TLS, why=_AT_ONCE),
        excluded("--starttls mysql", by=_A_SERVER, why=_MYSQL),
        needs("--cafile", on=(*_RELAY_SECURED, HTTPS_PROXY), why=_RELAY_BARE),
        needs(*_OF_ALL, "--alpn", on=_RELAY_SECURED, why=_RELAY_BARE),
        needs(*_OF_CLIENTS, on=(_TO_TLS, "--starttls"), why=_RELAY_BARE),
        needs(
            "--self-signed",
            on=Case("a tls: address as LISTEN", lambda values: values["address"].tls),
            why="without tls: nothing is secured",
        ),
        *_made_rules,
        needs(Case("--key", lambda values: values["key"] and not values["address"].tls), on="--cert"),
        needs("--key-password-file", on="--cert"),
        _trust_rule,
        _version_rule,
    ],
)

timeout_option = TIME.option("--timeout", type=types.DURATION, help="Exit with 28 after D.")


def _timeouts(outcome: str) -> Decorator:
    words = f"Close a connection idle for D{outcome}."
    return chained(TIME.option("--idle-timeout", type=types.DURATION, help=words), timeout_option)


timeout_options = _timeouts(" (exit code 28)")
server_timeout_options = _timeouts("")
conversation_timeout_options = _timeouts(" (exit code 28 without --keep)")

datagram_timeout_options = chained(
    TIME.option("--idle-timeout", type=types.DURATION, help="Exit with 28 when no datagram comes for D."),
    timeout_option,
)


def connect_timeout_option(
    limited: str = "resolving, connecting and TLS", seconds: float = 10.0, outcome: str = "; exit code 28"
) -> Decorator:
    """The time limit for what ``limited`` names in help."""
    words = f"Time limit for {limited} (default: {seconds:g}s{outcome})."
    return TIME.option("-w", "--connect-timeout", type=types.DURATION, default=seconds, help=words)


own_end_options = chained(
    ADDRESSES.option("--source", type=types.SOURCE, help="Connect from this address and port."),
    ADDRESSES.option("--interface", type=types.INTERFACE, help="Connect through this interface only, such as eth0."),
)

dial_options = chained(
    connect_timeout_option(),
    own_end_options,
    TIME.option("--keepalive", type=types.DURATION, help="Probe a peer that is silent for D (TCP keepalive)."),
    rules=[
        excluded("-4", "-6", "-n", "--source", "--interface", by=UNIX, why="a unix socket has no IP address"),
        excluded("--keepalive", by=UNIX, why="a unix socket has no keepalive"),
    ],
)

shutdown_after_option = ENDING.option(
    "--shutdown-after",
    type=types.DURATION_OR_ZERO,
    help="Send the end of input when nothing has come back for D "
    "(default: 0; to TLS servers and proxies 2s, 10s without answer).",
)

ending_options = gathered(
    "ending",
    EndingOptions,
    ENDING.option(
        "--grace",
        type=types.DURATION_OR_ZERO,
        help="After the peer's end, exit when our input is idle for D (default: 500ms).",
    ),
    ENDING.option("--hold", help="After the peer's end, wait for the end of our input."),
    ENDING.option("--no-shutdown", help="Do not send the end of our input; exit when the peer ends."),
    shutdown_after_option,
    ENDING.option("--send-only", help="Exit when all of our input is sent and acknowledged."),
    rules=[
        one_of("--grace", "--hold"),
        one_of("--no-shutdown", "--shutdown-after"),
        excluded("--no-shutdown", "--shutdown-after", by="--send-only", why="--send-only leaves with our input's end"),
        excluded("--raw", by="--send-only", why="--send-only shows nothing"),
    ],
)

program_options = gathered(
    "program",
    ProgramOptions,
    DATA.option(
        "--exec",
        type=types.COMMAND,
        help="Run CMD with each connection as its stdin and stdout; words are split as in a shell.",
    ),
    DATA.option("--sh-exec", type=types.SHELL_COMMAND, help="Like --exec, but /bin/sh runs CMD."),
)

record_options = gathered(
    "record",
    RecordOptions,
    OUTPUT.option("--hexdump", help="Write a hex dump of both directions to stderr, as -vvv does."),
    OUTPUT.option("--log", type=types.FILE, help="Append the data of both directions to FILE as JSON Lines."),
    rules=[one_of("--hexdump", "--json"), one_of("--hexdump", "--quiet")],
)

stats_option = OUTPUT.option("--stats", help="Print bytes and time at the end, as JSON.")
crlf_option = DATA.option("-C", "--crlf", help="Send line endings as CR LF.")
raw_option = DATA.option("--raw", help="Write control bytes to a terminal as they are.")
_PRINTABLE = ("hex", "json", "none")


def _form(name: str) -> Case:
    return Case(
        f"--output {name}", lambda values: OutputOptions(values["output"], False).kind(_verbosity(values)) == name
    )


output_options = gathered(
    "output",
    OutputOptions,
    DATA.option(
        "--output",
        type=types.choice("raw", "lines", "hex", "json", "none"),
        help="Print datagrams in this form (default: raw, lines on a terminal, json with --json).",
    ),
    raw_option,
    rules=[excluded("--raw", by=_form(name), why=f"--output {name} writes no control bytes") for name in _PRINTABLE],
)
