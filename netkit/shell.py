"""What commands share: how words become values, how a command runs, and every line said to a person."""

import functools
import os
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

import click

from netkit.core.errors import Exit, Failure, Invalid

if TYPE_CHECKING:
    from netkit.core.access import Network
    from netkit.core.address import Endpoint, Role
    from netkit.core.bind import Receiver
    from netkit.core.dial import Dialling
    from netkit.core.events import Observer
    from netkit.core.listen import Handler
    from netkit.core.relay import Change, Ending
    from netkit.core.stream import Secure
    from netkit.core.tls import Security
    from netkit.report import Totals
    from netkit.services.filtering import Filter
    from netkit.services.framing import Prefix
    from netkit.services.server import Service, Sockets

F = TypeVar("F", bound=Callable[..., Any])

_LINE_MAX = 400  # bytes of a message: one write(2), which a pipe keeps whole
_GLANCE_MS = 50  # between two looks for a signal
_TEN_YEARS = 10 * 365 * 24 * 3600.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ms|s|m|h|)", re.ASCII)
_SIZE = re.compile(r"([1-9][0-9]{0,11})([KMG]?)")
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_WORD = re.compile(r"-(\.?[0-9].*|inf|nan|)", re.DOTALL)  # "-" and what looks like a negative number
# What users of other netcats type, and what to type here.
HABITS = {
    "-l": "netkit listen ADDRESS listens",
    "-u": "datagrams are netkit udp-send and netkit udp-serve",
    "-z": "netkit portcheck HOST PORTS looks which ports are open",
    "-e": "--exec CMD of netkit connect and netkit listen runs a program over a connection",
    "-c": "--sh-exec CMD of netkit connect and netkit listen has the shell run it",
    "-U": "write unix:PATH as the address",
}
SERVER_HABITS = {
    **HABITS,
    "-l": "this listens already",
    "-k": "any number of clients are served",
    "-p": "the port is part of the address",
    "-s": "the host is part of the address",
    "-w": "--accept-timeout D bounds the wait for a client",
}


# -- saying


def printable(text: str) -> str:
    """Return ``text`` in printable ASCII: other characters as ``\\xNN``, ``\\uNNNN`` or ``\\UNNNNNNNN``."""
    return "".join(c if " " <= c <= "~" else _escaped(ord(c)) for c in text)


def _escaped(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, as os.fsdecode keeps it
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def quoted(pattern: "re.Pattern[bytes]") -> str:
    """Return a pattern for a message."""
    return repr(os.fsdecode(pattern.pattern))


def say(text: str) -> None:
    """Write one line to stderr. A stderr that takes nothing changes nothing else."""
    line = printable(text)
    if len(line) >= _LINE_MAX:
        line = line[: _LINE_MAX - 4] + "..."
    _write_line(line)


def answer(text: str) -> int:
    """Write an answer and a newline to stdout, and return the exit code."""
    try:
        put(text + "\n")
    except Failure as failure:
        return conclude(failure)
    return Exit.OK


def answer_rows(rows: Sequence[Sequence[str]]) -> int:
    """Write rows to stdout, their cells separated by tabs, on a terminal in columns; return the exit code."""
    if not rows:
        return Exit.OK
    shown = [[printable(cell) for cell in row] for row in rows]
    if not os.isatty(1):
        return answer("\n".join("\t".join(row) for row in shown))
    widths = [max(len(row[i]) for row in shown if i < len(row)) for i in range(max(map(len, shown)))]
    return answer("\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in shown))


def put(text: str) -> None:
    """Write to stdout, all of it; raise Failure WRITE."""
    rest = memoryview(text.encode("utf-8", "surrogateescape"))
    try:
        while rest:
            rest = rest[os.write(1, rest) :]
    except OSError as error:
        raise Failure(Exit.WRITE, "write to stdout", error) from error


def filtered(change: "Filter", talk: "Talk", given: bytes | None = None) -> int:
    """Write what ``change`` makes of stdin, or of ``given`` in its place, to stdout, and return the exit code."""
    from netkit.services.filtering import run

    try:
        run(change, given)
    except Failure as failure:
        return conclude(failure, talk)
    return Exit.OK


def complain(command: str, failure: Failure) -> None:
    """Say what failed, and on a terminal what to try."""
    say(f"{command}: {failure}")
    if failure.hint:
        hint(failure.hint)


def hint(text: str) -> None:
    """Say what to try, on a terminal alone."""
    if os.isatty(2):
        say(f"hint: {text}")


def emit(event: str, **fields: Any) -> None:
    """Write one event to stderr as JSON. A stderr that takes nothing changes nothing else."""
    from netkit.core.record import record

    _write_line(record(event, command_name().removeprefix("netkit "), **fields))


def _write_line(line: str) -> None:
    """Write to stderr. While that is full we wait, but not once a signal has come."""
    import select

    from netkit.core.kernel import signalled

    try:
        poll = select.poll()
        poll.register(2, select.POLLOUT)
        while not poll.poll(_GLANCE_MS):
            if signalled():
                return
        os.write(2, line.encode() + b"\n")
    except OSError:
        pass


# -- running


def run(
    main: Coroutine[Any, Any, int | None],
    talk: "Talk",
    *,
    timeout: float | None = None,
    refused: Exit = Exit.CONNECT,
    totals: "Totals | None" = None,
) -> int:
    """Run a command's work to its end and return its exit code; a signal ends the process here.

    ``timeout`` bounds the whole of it, in seconds; ``refused`` is the code if the system has no room for us at all.
    ``totals`` are told at the end, however it comes.
    """
    import signal

    from netkit.core import kernel

    def told(code: int) -> int:
        if totals is not None:
            emit("stats", **totals.fields(code))
        return code

    try:
        return told(kernel.run(_within(main, timeout), signals=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)) or 0)
    except kernel.Interrupted as interrupted:
        told(Exit.SIGNAL + interrupted.signum)
        die(interrupted.signum)
    except Failure as failure:
        if _is_reader_gone(failure):
            told(Exit.SIGNAL + signal.SIGPIPE)
        return told(conclude(failure, talk))
    except OSError as error:
        return told(conclude(Failure(refused, "go on", error), talk))
    finally:
        main.close()


def totals(stats: bool, protocol: str | None = None) -> "Totals | None":
    """Return totals that begin now, if they are wanted; of a protocol, if it is known."""
    if not stats:
        return None
    from netkit.report import Totals

    return Totals(protocol)


def conclude(failure: Failure, talk: "Talk | None" = None) -> int:
    """Say a failure and return its exit code; a reader of stdout that left is a silent SIGPIPE, as for any filter."""
    import signal

    if _is_reader_gone(failure):
        die(signal.SIGPIPE)
    if os.environ.get("NETKIT_DEBUG"):
        import traceback

        traceback.print_exception(failure)
    if talk is not None and talk.json:
        from netkit.report import failed

        emit("error", **failed(failure))
    elif talk is None or not talk.quiet:
        complain(command_name(), failure)
    return failure.exit


def _is_reader_gone(failure: Failure) -> bool:
    import errno

    return failure.exit is Exit.WRITE and failure.errno == errno.EPIPE


def die(signum: int) -> NoReturn:
    """End by the signal, so that who waits for us sees it; as process 1, where no signal ends us, by its code."""
    import signal

    signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
    os.kill(os.getpid(), signum)
    os._exit(Exit.SIGNAL + signum)


async def _within(main: Coroutine[Any, Any, int | None], timeout: float | None) -> int | None:
    from netkit.core.events import span
    from netkit.core.kernel import Expired, deadline, now

    try:
        with deadline(None if timeout is None else now() + timeout):
            return await main
    except Expired:
        reason = f"time ran out after {span(timeout or 0)}"
        raise Failure(Exit.TIMEOUT, "finish", reason, detail="--timeout") from None


def become(command: tuple[str, ...], talk: "Talk") -> int:
    """Put COMMAND in our place, with the signals as they were before Python; return the exit code if it cannot run."""
    import signal

    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except FileNotFoundError as error:
        return conclude(Failure(Exit.NOT_FOUND, f"run {command[0]}", error), talk)
    except OSError as error:
        return conclude(Failure(Exit.NOT_RUNNABLE, f"run {command[0]}", error), talk)


def command_name() -> str:
    """Return ``netkit COMMAND``, as messages begin."""
    context = click.get_current_context(silent=True)
    return context.command_path if context else "netkit"


# -- words


class Option(click.Option):
    """A click option that knows under which heading help and man page list it."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class Command(click.Command):
    """A command that takes words after ``--`` as COMMAND, negative numbers as words, and whose mistakes are one line.

    ``examples`` are pairs of what to type and what it does. ``habits`` maps other tools' options to what to type here.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[tuple[str, str]],
        words: str,
        habits: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.add_help_option = False
        self.examples = examples
        self.words = words
        self.takes_command = "-- COMMAND" in words
        self.habits = habits or {}
        self.params.append(_help_option())
        self._options = {name: p for p in self.params if isinstance(p, click.Option) for name in p.opts}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Sort options from words before click sees them, so that it has nothing to guess."""
        try:
            options, words, command = self._sort(args)
            if command is not None and not self.takes_command:
                raise click.UsageError("words after '--' would be a command to run, and there is none here")
            if command is not None and not command:
                raise click.UsageError("COMMAND is missing after '--'")
            rest = super().parse_args(ctx, [*options, "--", *words])
        except click.UsageError as error:
            error.ctx = ctx
            raise
        if self.takes_command:
            ctx.params["command"] = tuple(command or ())
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; input that means nothing is a usage error."""
        try:
            return super().invoke(ctx)
        except Invalid as error:
            usage = click.UsageError(str(error), ctx)
            usage.hint = error.hint  # type: ignore[attr-defined]
            raise usage from error

    def get_help(self, ctx: click.Context) -> str:
        """Return the help page."""
        from netkit.man import help_page

        return help_page(self, ctx.command_path)

    def _sort(self, args: Sequence[str]) -> tuple[list[str], list[str], list[str] | None]:
        """Split into options with their values, words, and what follows the first free ``--``."""
        options: list[str] = []
        words: list[str] = []
        rest = list(args)
        while rest:
            arg = rest.pop(0)
            if arg == "--":
                return options, words, rest
            if not arg.startswith("-") or (_WORD.fullmatch(arg) and arg[:2] not in self._options):
                words.append(arg)
                continue
            if "-" + arg.partition("=")[0] in self._options:
                raise click.NoSuchOption(arg, possibilities=["-" + arg])
            options.append(arg)
            if self._wants_value(arg):
                if not rest:
                    name = arg if arg.startswith("--") else "-" + arg[-1]
                    raise click.UsageError(f"option {name!r} needs a value")
                options.append(rest.pop(0))
        return options, words, None

    def _wants_value(self, arg: str) -> bool:
        """Whether the next word is the value of this option."""
        if arg.startswith("--"):
            option = self._options.get(arg)
            return option is not None and not option.is_flag and not option.count
        for position, letter in enumerate(arg[1:], 2):
            option = self._options.get("-" + letter)
            if option is None:
                return False
            if not option.is_flag and not option.count:
                return position == len(arg)
        return False


def command(**attributes: Any) -> Callable[[F], Command]:
    """Make a function a netkit command; ``attributes`` are those of Command."""

    def decorate(function: F) -> Command:
        return click.command(cls=Command, **attributes)(function)

    return decorate


def show_help(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Print the help page and end, if that was asked for: the callback of --help."""
    if value:
        ctx.exit(answer(ctx.get_help()))


def _help_option() -> click.Option:
    return Option(
        ["-h", "--help"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=show_help,
        help="Show this help.",
        section="Talk",
    )


def option(*names: str, section: str, **attributes: Any) -> Callable[[F], F]:
    """Add an option under a heading."""
    return click.option(*names, cls=Option, section=section, **attributes)


def address(
    role: "Role", *, tls: bool = False, udp: bool = False, rest_as: str | None = None, target: bool = False
) -> Callable[[F], F]:
    """Add the words of one address; the function gets an Endpoint named ``address``.

    With ``target`` another follows, that of a client, which the function gets by this name.

    It may be secured with ``tls``, and with ``udp`` is one for datagrams. The words behind it are a mistake, or with
    ``rest_as`` texts, a tuple of bytes that gets this name.
    """

    def read(ctx: click.Context, param: click.Parameter, words: tuple[str, ...]) -> Any:
        if ctx.resilient_parsing:
            return None
        from netkit.core.address import take

        try:
            endpoint, rest = take(words, role)
        except Invalid as error:
            raise click.UsageError(str(error) + _misread(ctx, words), ctx) from error
        if udp and (endpoint.tls or endpoint.path is not None):
            raise click.UsageError(f"address {str(endpoint)!r} is none for UDP datagrams", ctx)
        if endpoint.tls and not tls:
            raise click.UsageError(f"address {str(endpoint)!r}: there is no TLS here", ctx)
        if target:
            try:
                ctx.params["target"], rest = take(rest, "client")
            except Invalid as error:
                raise click.UsageError(f"TARGET: {error}", ctx) from error
        if rest_as:
            ctx.params[rest_as] = tuple(Text().convert(word, None, ctx) for word in rest)
        elif rest:
            last = ctx.params["target"] if target else endpoint
            text = f"unexpected word {rest[0]!r} after address {str(last)!r}"
            raise click.UsageError(text + _misread(ctx, words), ctx)
        return endpoint

    return click.argument("address", nargs=-1, callback=read)


def _misread(ctx: click.Context, words: tuple[str, ...]) -> str:
    """Return what to add to an error of the address if -q got a number, as nc's does."""
    if ctx.params.get("quiet") and len(words) > 1 and words[0].isascii() and words[0].isdigit():
        return "; -q takes no number here, it silences: see --grace"
    return ""


if TYPE_CHECKING:
    Parameter = click.ParamType[Any]  # generic in click's newest versions alone
else:
    Parameter = click.ParamType


class Duration(Parameter):
    """``500ms``, ``2s``, ``1.5``, ``1m``, ``1h``; bare numbers are seconds. A float of seconds, at most ten years."""

    name = "D"

    def __init__(self, *, zero: bool = False) -> None:
        self.zero = zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        match = _DURATION.fullmatch(value)
        if not match:
            self.fail(f"{value!r} is not a duration, such as 500ms, 2s, 1.5 or 1m", param, ctx)
        seconds = float(match[1]) * _UNITS[match[2]]
        if seconds > _TEN_YEARS:
            self.fail(f"{value!r} is longer than ten years", param, ctx)
        if not seconds and not self.zero:
            self.fail(f"{value!r} would leave no time at all", param, ctx)
        return seconds


class Count(Parameter):
    """A whole number from 1 on, in ASCII digits."""

    name = "N"

    def __init__(self, *, most: int = 10**18 - 1) -> None:
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        if not re.fullmatch(r"[1-9][0-9]{0,17}", value):
            self.fail(f"{value!r} is not a whole number from 1 on", param, ctx)
        if int(value) > self.most:
            self.fail(f"{value!r} is more than {self.most}", param, ctx)
        return int(value)


class CountOrAny(Count):
    """A whole number from 1 on, or ``any``."""

    name = "N|any"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or ``any`` as it is."""
        return value if value == "any" else super().convert(value, param, ctx)


class OneOf(Parameter):
    """One of a few words."""

    def __init__(self, *words: str) -> None:
        self.words = words
        self.name = "|".join(words)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the word."""
        if value not in self.words:
            self.fail(f"{value!r} is none of {', '.join(self.words)}", param, ctx)
        return str(value)


class Size(Parameter):
    """Bytes: ``1500``, ``64K``, ``1M`` or ``2G``, in powers of 1024; not 0."""

    name = "SIZE"

    def __init__(self, *, most: int | None = None) -> None:
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes."""
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(value)
        if not match:
            self.fail(f"{value!r} is not a size, such as 1500, 64K, 1M or 2G", param, ctx)
        size = int(match[1]) * _SIZES[match[2]]
        if self.most is not None and size > self.most:
            self.fail(f"{value!r} is more than {self.most}", param, ctx)
        return size


class Length(Parameter):
    """The length in front of a record: ``u8``, ``u16`` or ``u32``, with ``le`` behind it if wanted."""

    name = "u8|u16|u32[le]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Prefix":
        """Return the prefix."""
        from netkit.services.framing import parse_prefix

        try:
            return parse_prefix(value)
        except Invalid as error:
            self.fail(str(error), param, ctx)


class Text(Parameter):
    """Bytes, with ``\\n \\r \\t \\0 \\\\ \\xNN`` understood."""

    name = "TEXT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Return the bytes."""
        from netkit.services.text import parse

        try:
            return parse(value)
        except Invalid as error:
            self.fail(str(error), param, ctx)


class Hex(Parameter):
    """Bytes in hex digits, with spaces between bytes if wanted."""

    name = "HEX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Return the bytes."""
        try:
            return bytes.fromhex(value)
        except ValueError:
            self.fail(f"{value!r} is not pairs of hex digits", param, ctx)


class Words(Parameter):
    """A program and its arguments, split as a shell splits them; a tuple of words."""

    name = "CMD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the words."""
        import shlex

        if isinstance(value, tuple):
            return value
        try:
            words = tuple(shlex.split(value))
        except ValueError as error:
            self.fail(f"{value!r} cannot be split into words: {str(error).lower()}", param, ctx)
        if not words or not words[0]:
            self.fail("there is no program to run", param, ctx)
        return words


class Line(Parameter):
    """A command line for the shell."""

    name = "CMD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it."""
        if not value.strip():
            self.fail("there is no program to run", param, ctx)
        return str(value)


class Path(Parameter):
    """A file's path."""

    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the path."""
        if not value:
            self.fail("the path is empty", param, ctx)
        return str(value)


class HostName(Parameter):
    """The name of a host, or its address."""

    name = "NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        from netkit.core.address import check_host

        try:
            return check_host(value)
        except Invalid as error:
            self.fail(str(error), param, ctx)


class Protocols(Parameter):
    """Names of protocols with commas between them, as ALPN has them (RFC 7301); a tuple."""

    name = "NAME,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the names."""
        if isinstance(value, tuple):
            return value
        names = tuple(value.split(","))
        if not all(name.isascii() and name.isprintable() and 0 < len(name) < 256 for name in names):
            self.fail(f"{value!r} is not names of 1 to 255 ASCII characters, such as h2,http/1.1", param, ctx)
        return names


class Choice(Parameter):
    """One of a few words."""

    def __init__(self, name: str, *words: str) -> None:
        self.name = name
        self.words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the word."""
        if value not in self.words:
            self.fail(f"{value!r} is none of {', '.join(self.words)}", param, ctx)
        return str(value)


class Source(Parameter):
    """``ADDR``, ``ADDR:PORT`` or ``:PORT`` of this machine."""

    name = "ADDR[:PORT]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Return address and port; "" and 0 are any."""
        from netkit.core.address import parse_source

        try:
            return parse_source(value)
        except Invalid as error:
            self.fail(str(error), param, ctx)


class Pattern(Parameter):
    """A regular expression of Python's, over bytes; ^ and $ match at lines."""

    name = "REGEX"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "re.Pattern[bytes]":
        """Return the compiled pattern."""
        try:
            return re.compile(os.fsencode(value), re.MULTILINE)
        except (re.error, OverflowError, RecursionError) as error:
            self.fail(f"{value!r} is not a regular expression: {error}", param, ctx)


class Cidr(Parameter):
    """An address or a network, ``10.0.0.0/8``."""

    name = "CIDR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Network":
        """Return the network."""
        from netkit.core.access import parse_network

        try:
            return parse_network(value)
        except Invalid as error:
            self.fail(str(error), param, ctx)


class Group(Parameter):
    """A multicast address, with ``%INTERFACE`` if wanted."""

    name = "GROUP"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it as it is."""
        from netkit.core.bind import parse_group

        try:
            return parse_group(value)
        except Invalid as error:
            self.fail(str(error), param, ctx)


class Mode(Parameter):
    """The permission bits of a file, in octal: ``660``."""

    name = "MODE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bits."""
        if not re.fullmatch(r"0?[0-7]{3}", value):
            self.fail(f"{value!r} is not a mode such as 600 or 660", param, ctx)
        return int(value, 8)


# -- options of many commands


def exclude(given: Mapping[str, object]) -> None:
    """Refuse more than one of these options together; None and False are not given."""
    names = [name for name, value in given.items() if value is not None and value is not False]
    if len(names) > 1:
        raise Invalid(f"{names[0]} and {names[1]} exclude each other")


def unapplied(why: str, given: Mapping[str, object]) -> None:
    """Refuse options that would change nothing here; None and False are not given."""
    for name, value in given.items():
        if value is not None and value is not False:
            raise Invalid(f"{name} does not apply: {why}")


def _gathered(name: str, kind: Any, *options: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that adds ``options`` and hands their values to the function as one ``kind``."""

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def call(**values: Any) -> Any:
            values[name] = kind(**{field: values.pop(field) for field in kind._fields})
            return function(**values)

        made: Any = call
        for add in reversed(options):
            made = add(made)
        return made  # type: ignore[no-any-return]

    return decorate


class Talk(NamedTuple):
    """How much is said, and in which form."""

    verbose: int
    quiet: bool
    json: bool

    def observer(self, totals: "Totals | None" = None) -> "Observer":
        """Return the observer that says as much, and counts for ``totals``."""
        from netkit.core.events import ignore

        exclude({"--quiet": self.quiet, "--json": self.json})
        observe = ignore if self.quiet else self._saying()
        return totals.watching(observe) if totals else observe

    def _saying(self) -> "Observer":
        from netkit import report
        from netkit.core import events

        def in_json(event: Any) -> None:
            if found := report.fields(event, self.verbose):
                name, fields = found
                emit(name, **fields)

        def in_words(event: Any) -> None:
            if line := report.sentence(event, self.verbose):
                say(f"{command_name()}: {line}")
            elif isinstance(event, events.Unanswered):
                hint("nothing came back; a server that drops clients which half-close may want --no-shutdown")

        return in_json if self.json else in_words


class Reach(NamedTuple):
    """Which addresses count."""

    ipv4: bool
    ipv6: bool
    numeric: bool

    def family(self, endpoint: "Endpoint | None" = None) -> int:
        """Return the one address family wanted, or AF_UNSPEC."""
        import socket

        exclude({"-4": self.ipv4, "-6": self.ipv6})
        if endpoint is not None and endpoint.path is not None:
            unapplied("a unix socket has no IP address", {"-4": self.ipv4, "-6": self.ipv6, "-n": self.numeric})
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

    def client(self, target: "Endpoint", talk: Talk) -> "Callable[[Observer], Secure] | None":
        """Return what makes the handshake of a client; None if there is to be none."""
        if not self._wanted(target):
            return None
        if self.key is not None and self.cert is None:
            raise Invalid("--key needs --cert")
        exclude({"--insecure": self.insecure, "--cafile": self.cafile})
        host = self.servername or target.host or ("localhost" if target.path is None else None)
        if host is None and not self.insecure:
            raise Invalid("a unix socket has no name that a certificate could have: --servername NAME says it")
        if self.insecure:
            emit("unverified", target=str(target)) if talk.json else say(
                f"{command_name()}: the certificate of {target} is not verified (--insecure)"
            )

        def make(observe: "Observer") -> "Secure":
            from netkit.core import tls

            return tls.client(self._security(), host or "", observe)

        return make

    def server(self, address: "Endpoint") -> "Callable[[Observer], Secure] | None":
        """Return what makes the handshake of a server; None if there is to be none."""
        if not self._wanted(address):
            return None
        unapplied("a server has the certificate", {"--servername": self.servername, "--insecure": self.insecure})
        if self.cert is None or self.key is None:
            pair = (
                "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 -subj /CN=localhost"
            )
            hint = f"{pair} -addext subjectAltName=DNS:localhost makes a pair"
            raise Invalid("a TLS server needs --cert and --key", hint=hint)

        def make(observe: "Observer") -> "Secure":
            from netkit.core import tls

            return tls.server(self._security(), observe)

        return make

    def _wanted(self, endpoint: "Endpoint") -> bool:
        if self.tls or endpoint.tls:
            return True
        options = {"--cafile": self.cafile, "--cert": self.cert, "--key": self.key, "--servername": self.servername}
        unapplied("without --tls or tls: nothing is secured", {**options, "--alpn": self.alpn})
        unapplied("without --tls or tls: nothing is secured", {"--insecure": self.insecure})
        return False

    def _security(self) -> "Security":
        from netkit.core.tls import Security

        return Security(self.cafile, self.cert, self.key, self.alpn or (), self.insecure)


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

    def dialling(self, endpoint: "Endpoint", reach: Reach) -> "Dialling":
        """Return what the core takes."""
        from netkit.core.dial import Dialling

        if endpoint.path is not None:
            unapplied("a unix socket has no IP address", {"--source": self.source})
            unapplied("a unix socket has no keepalive", {"--keepalive": self.keepalive})
        return Dialling(reach.family(endpoint), reach.numeric, self.connect_timeout, self.source)


class Ends(NamedTuple):
    """When a conversation ends."""

    grace: float | None
    hold: bool
    no_shutdown: bool

    def given(self) -> dict[str, object]:
        """Return the options by name, for ``unapplied``."""
        return {"--grace": self.grace, "--hold": self.hold, "--no-shutdown": self.no_shutdown}

    def ending(self) -> "Ending":
        """Return what the core takes."""
        from netkit.core.relay import Ending

        exclude({"--grace": self.grace, "--hold": self.hold})
        grace = Ending().grace if self.grace is None else self.grace
        return Ending(None if self.hold else grace, half_close=not self.no_shutdown)


class Programs(NamedTuple):
    """A program to run over a connection."""

    exec: tuple[str, ...] | None
    sh_exec: str | None

    def given(self) -> dict[str, object]:
        """Return the options by name, for ``exclude``."""
        return {"--exec": self.exec, "--sh-exec": self.sh_exec}

    @property
    def argv(self) -> tuple[str, ...] | None:
        """The program with its arguments; None if there is none."""
        return self.exec if self.sh_exec is None else ("/bin/sh", "-c", self.sh_exec)


class Recorded(NamedTuple):
    """What is kept or shown of the bytes on the wire."""

    log: str | None
    hexdump: bool

    def around(self, handler: "Handler", talk: Talk) -> "Handler":
        """Return the handler with all that goes over its connections recorded. Raises Failure WRITE."""
        hexdump = self.hexdump or (talk.verbose > 2 and not (talk.json or talk.quiet))
        if self.log is None and not hexdump:
            return handler
        from netkit.services.dialogue import recording

        return recording(handler, self.log, hexdump)

    def check(self, talk: Talk) -> None:
        """Refuse what does not go together."""
        exclude({"--hexdump": self.hexdump, "--json": talk.json})
        exclude({"--hexdump": self.hexdump, "--quiet": talk.quiet})


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

    def given(self) -> dict[str, object]:
        """Return the options by name, for ``unapplied``."""
        return {f"--{name.replace('_', '-')}": value for name, value in self._asdict().items()}


class Transport(NamedTuple):
    """Which protocols a server serves, TCP if neither is asked for."""

    udp: bool
    both: bool

    def given(self) -> dict[str, object]:
        """Return the options by name, for ``exclude`` and ``unapplied``."""
        return {"--udp": self.udp, "--both": self.both}


class Output(NamedTuple):
    """How datagrams are shown."""

    output: str | None
    raw: bool

    def given(self) -> dict[str, object]:
        """Return the options by name, for ``unapplied``."""
        return {"--output": self.output, "--raw": self.raw}

    def kind(self, talk: Talk) -> str:
        """Return the form that was asked for, or is meant."""
        kind = self.output or ("json" if talk.json else "raw")
        if kind not in ("raw", "lines"):
            unapplied(f"--output {kind} writes no control bytes", {"--raw": self.raw})
        return kind


class View(NamedTuple):
    """What is shown beside plain lines."""

    color: str | None
    progress: bool
    no_progress: bool

    def coloured(self, fd: int) -> bool:
        """Whether what is written there is coloured: --color beats NO_COLOR, which beats FORCE_COLOR."""
        if self.color in ("always", "never"):
            return self.color == "always"
        if os.environ.get("NO_COLOR"):
            return False
        return bool(os.environ.get("FORCE_COLOR")) or os.isatty(fd)

    def moving_after(self) -> float | None:
        """Return the seconds after which something on stderr may move, or None if nothing ever does."""
        exclude({"--progress": self.progress, "--no-progress": self.no_progress})
        if not os.isatty(2):
            unapplied("stderr is no terminal", {"--progress": self.progress})
            return None
        return None if self.no_progress else 0.0 if self.progress else 0.5


view_options = _gathered(
    "view",
    View,
    option(
        "--color",
        type=Choice("WHEN", "auto", "always", "never"),
        section="Talk",
        help="Colour on a terminal (auto), always or never.",
    ),
    option("--progress", is_flag=True, section="Talk", help="Show on the terminal how far it is, at once."),
    option("--no-progress", is_flag=True, section="Talk", help="Show nothing that moves."),
)

talk_options = _gathered(
    "talk",
    Talk,
    option("-v", "--verbose", count=True, section="Talk", help="Say what happens; -vv also every address tried."),
    option("-q", "--quiet", is_flag=True, section="Talk", help="Say nothing; the exit code tells."),
    option("--json", is_flag=True, section="Talk", help="Say what happens as JSON Lines, failures included."),
)

json_option = option("--json", is_flag=True, section="Talk", help="Answer as JSON Lines.")

quiet_option = option("-q", "--quiet", is_flag=True, section="Talk", help="Say nothing; the exit code tells.")

max_size_option = option(
    "--max-size",
    type=Size(),
    default=16 << 20,
    section="Data",
    help="The largest record, or format, in bytes (63); 16M unless given.",
)

reach_options = _gathered(
    "reach",
    Reach,
    option("-4", "ipv4", is_flag=True, section="Addresses", help="IPv4 alone."),
    option("-6", "ipv6", is_flag=True, section="Addresses", help="IPv6 alone."),
    option("-n", "--numeric", is_flag=True, section="Addresses", help="No names: addresses alone are looked at."),
)

_tls_choices = (
    option("--cafile", type=Path(), section="TLS", help="Trust the authorities in FILE (PEM); who comes needs one."),
    option("--cert", type=Path(), section="TLS", help="Our certificate and its chain (PEM)."),
    option("--key", type=Path(), section="TLS", help="The key of our certificate (PEM, not encrypted)."),
    option("--servername", type=HostName(), section="TLS", help="The name to ask for and to verify."),
    option("--alpn", type=Protocols(), section="TLS", help="Protocols to agree on, in the order of preference."),
    option("--insecure", is_flag=True, section="TLS", help="Do not verify the peer's certificate."),
)

tls_options = _gathered(
    "tls",
    Tls,
    option("--tls", is_flag=True, section="TLS", help="Speak TLS, as with tls: in front of the address."),
    *_tls_choices,
)

both_tls_options = _gathered("tls", BothTls, *_tls_choices)

clock_options = _gathered(
    "clocks",
    Clocks,
    option(
        "--idle-timeout",
        type=Duration(),
        section="Time",
        help="Give a connection up (28) once no byte has moved either way for D.",
    ),
    option("--timeout", type=Duration(), section="Time", help="Give everything up (28) after D."),
)

datagram_clock_options = _gathered(
    "clocks",
    Clocks,
    option("--idle-timeout", type=Duration(), section="Time", help="Give up (28) once no datagram has come for D."),
    option("--timeout", type=Duration(), section="Time", help="Give everything up (28) after D."),
)

_connect_timeout_option = option(
    "-w",
    "--connect-timeout",
    type=Duration(),
    default=10.0,
    section="Time",
    help="Time for resolving and connecting together (28); 10s unless given.",
)
_source_option = option("--source", type=Source(), section="Addresses", help="Connect from this address and port.")

dial_options = _gathered(
    "dial",
    Dial,
    _connect_timeout_option,
    _source_option,
    option("--keepalive", type=Duration(), section="Time", help="Probe a peer that was silent for D (TCP keepalive)."),
)

ending_options = _gathered(
    "ends",
    Ends,
    option(
        "--grace",
        type=Duration(zero=True),
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
)

program_options = _gathered(
    "programs",
    Programs,
    option(
        "--exec",
        type=Words(),
        section="Data",
        help="Run CMD over each connection, its stdin and stdout in place of ours; its words are split as in a shell.",
    ),
    option("--sh-exec", type=Line(), section="Data", help="The same, and CMD is run by the shell."),
)

record_options = _gathered(
    "recorded",
    Recorded,
    option(
        "--hexdump",
        is_flag=True,
        section="Talk",
        help="Dump the bytes of both directions in hex on stderr, as -vvv does.",
    ),
    option("--log", type=Path(), section="Talk", help="Append the bytes of both directions to FILE as JSON Lines."),
)

stats_option = option("--stats", is_flag=True, section="Talk", help="Say bytes and time at the end, as JSON.")

raw_option = option("--raw", is_flag=True, section="Data", help="Let control bytes through to a terminal.")

output_options = _gathered(
    "output",
    Output,
    option(
        "--output",
        type=OneOf("raw", "lines", "hex", "json", "none"),
        section="Data",
        help="Print datagrams in this form; raw bytes unless given, with --json json.",
    ),
    raw_option,
)

transport_options = _gathered(
    "transport",
    Transport,
    option("--udp", is_flag=True, section="Serving", help="Serve UDP datagrams instead of TCP."),
    option("--both", is_flag=True, section="Serving", help="Serve TCP and UDP on one port number."),
)

serving_options = _gathered(
    "serving",
    Serving,
    option("--port-file", type=Path(), section="Serving", help="Keep the port number in FILE while serving."),
    option("--print-port", is_flag=True, section="Serving", help="Print the port number as the first line of stdout."),
    option(
        "--allow",
        type=Cidr(),
        multiple=True,
        section="Serving",
        help="Serve clients of this network alone; repeatable.",
    ),
    option(
        "--deny", type=Cidr(), multiple=True, section="Serving", help="Turn away clients of this network; repeatable."
    ),
    option(
        "--until",
        type=Pattern(),
        section="Ending",
        help="Stop serving, with 0, once the data of a client matches.",
    ),
    option("--stats", is_flag=True, section="Talk", help="Say what was served at the end, as JSON."),
    option("--accept-timeout", type=Duration(), section="Time", help="Give up (28) if nobody came within D."),
    option("--for", "duration", type=Duration(), section="Time", help="Stop serving after D; exit 0."),
)

client_options = _gathered(
    "clients",
    Clients,
    option("--once", is_flag=True, section="Serving", help="Serve one client, then exit."),
    option("--max-clients", type=Count(), section="Serving", help="Serve N clients, then exit."),
    option(
        "--max-conns",
        type=Count(),
        section="Serving",
        help="Serve at most N clients at one time, the next waits; 4096 unless given.",
    ),
    option("--mode", type=Mode(), section="Serving", help="The mode of a unix socket's file; 600 unless given."),
    option("--greet", type=Text(), section="Data", help="Send TEXT first; {host} and {port} are the client's."),
    option(
        "--keepalive", type=Duration(), section="Time", help="Probe a client that was silent for D (TCP keepalive)."
    ),
)


class Server:
    """All that a server was told on its command line, ``observe``, and ``stop``, the event that ends it in order."""

    _fields: tuple[str, ...] = ("address", "command", "reach", "serving", "clients", "tls", "clocks", "talk")

    def __init__(
        self,
        address: "Endpoint",
        command: tuple[str, ...],
        reach: Reach,
        serving: Serving,
        clocks: Clocks,
        talk: Talk,
        clients: Clients | None = None,
        tls: Tls | None = None,
    ) -> None:
        from netkit.core.kernel import Event

        self.address = address
        self.command = command
        self.reach = reach
        self.serving = serving
        self.clients = clients or Clients()
        self.clocks = clocks
        self.talk = talk
        self._secure = tls.server(address) if tls else None
        self.stop = Event()
        self._totals = totals(serving.stats)
        self.observe = talk.observer(self._totals)

    def changes(self) -> "list[Callable[[], Change]]":
        """Return what the data of each client goes through first: the watch of --until."""
        pattern = self.serving.until
        if pattern is None:
            return []
        from netkit.services.pattern import until

        return [lambda: until(pattern, self.stop.set, cut=False)]

    def receiver(self, *receivers: "Receiver") -> "Receiver":
        """Return what hands datagrams to each of these, and then to the watch of --until."""
        from netkit.services.datagrams import in_turn, until

        pattern = self.serving.until
        return in_turn(*receivers, *([until(pattern, self.stop)] if pattern is not None else []))

    def check(self, transport: Transport) -> None:
        """Refuse what datagrams do not have, if they are to be served."""
        exclude(transport.given())
        if not (transport.udp or transport.both):
            return
        if self.address.path is not None:
            raise Invalid(f"address {str(self.address)!r} is none for UDP datagrams")
        if self._secure is not None:
            unapplied("datagrams are not secured", transport.given())
        if transport.udp:
            unapplied("datagrams make no connections", self.clients.given())
            unapplied("datagrams make no connections", {"--idle-timeout": self.clocks.idle_timeout})
        else:
            kinds = "there are connections and datagrams"
            clients = {"--once": self.clients.once, "--max-clients": self.clients.max_clients}
            unapplied(kinds, {**clients, "--accept-timeout": self.serving.accept_timeout})

    def service(self, transport: Transport, handler: "Handler", change: Callable[[bytes], bytes]) -> "Service":
        """Return what serves clients with ``handler``, or sends datagrams back through ``change``, or both."""
        from netkit.services.server import Service

        if not (transport.udp or transport.both):
            return Service(handler)
        from netkit.services.datagrams import answering, changed

        receiver = self.receiver(answering(changed(change), self.observe))
        return Service(None if transport.udp else handler, receiver=receiver)

    def run(self, serve: "Callable[[], Service]", *, one_shot: bool = False, recorded: "Recorded | None" = None) -> int:
        """Listen, tell where, and do what ``serve`` returns until it is time to stop; return the exit code.

        ``serve`` is called before anybody can come, and may raise Failure. ``one_shot`` serves one client, and ends as
        that conversation does. What goes over the wire is ``recorded``.
        """
        self._check()
        family = self._family()
        serving, clients = self.serving, self.clients

        async def work() -> int:
            from netkit.core.listen import PRIVATE, Policy
            from netkit.services.server import keep_serving, open_sockets, port_file, welcoming

            policy = Policy(
                max_clients=1 if one_shot or clients.once else clients.max_clients,
                max_conns=clients.max_conns or Policy().max_conns,
                accept_timeout=serving.accept_timeout,
                admits=serving.admits(),
                secure=self._secure(self.observe) if self._secure else None,
            )
            service = serve()
            if service.handler is not None:
                handler = welcoming(service.handler, clients.greet, clients.keepalive)
                if recorded is not None:
                    handler = recorded.around(handler, self.talk)
                service = service._replace(handler=handler)
            sockets = await open_sockets(
                self.address,
                service,
                family=family,
                numeric=self.reach.numeric,
                mode=PRIVATE if clients.mode is None else clients.mode,
                observe=self.observe,
            )
            try:
                with port_file(serving.port_file, sockets.port):
                    self._tell(sockets)
                    return await keep_serving(
                        sockets,
                        service,
                        policy,
                        self.command,
                        idle_timeout=None if service.handler else self.clocks.idle_timeout,
                        stop=self.stop,
                        duration=serving.duration,
                        one_shot=one_shot,
                        observe=self.observe,
                    )
            finally:
                sockets.close()

        return run(work(), self.talk, timeout=self.clocks.timeout, refused=Exit.BIND, totals=self._totals)

    def _family(self) -> int:
        return self.reach.family(self.address)

    def _check(self) -> None:
        serving, clients = self.serving, self.clients
        exclude({"--once": clients.once, "--max-clients": clients.max_clients})
        if self.address.path is None:
            unapplied("only a unix socket has a mode", {"--mode": clients.mode})
            return
        unapplied("a unix socket has no port", {"--port-file": serving.port_file, "--print-port": serving.print_port})
        unapplied("a unix socket has no IP address", {"--allow": serving.allow or None, "--deny": serving.deny or None})
        unapplied("a unix socket has no keepalive", {"--keepalive": clients.keepalive})

    def _tell(self, sockets: "Sockets") -> None:
        for each in sockets.listening:
            self.observe(each)
        wordy = self.talk.verbose and not (self.talk.quiet or self.talk.json)
        if wordy and self.address.host is None and sockets.port is not None:
            hint(f"this machine only; {command_name()} :{sockets.port} takes every interface")
        if self.serving.print_port:
            put(f"{sockets.port}\n")


class Relay(Server):
    """A server whose clients are joined to ``target``."""

    _fields = (*Server._fields, "target", "connect_timeout", "source")

    def __init__(
        self,
        target: "Endpoint",
        connect_timeout: float,
        source: tuple[str, int] | None,
        tls: BothTls,
        talk: Talk,
        **told: Any,
    ) -> None:
        near, far = tls.sides(told["address"], target)
        super().__init__(tls=near, talk=talk, **told)
        if target.path is not None and target.path == self.address.path:
            raise Invalid(f"{target} is this relay itself")
        self.target = target
        self._far = far.client(target, talk)
        family = 0 if target.path is not None and self.address.path is None else self.reach.family(target)
        self._dialling = Dial(connect_timeout, source, None).dialling(
            target, self.reach._replace(ipv4=False, ipv6=False)
        )
        self._dialling = self._dialling._replace(family=family)

    def dialled(self) -> "Dialling":
        """Return how the target is dialled. Raises Failure READ for files that cannot be used."""
        return self._dialling._replace(secure=self._far(self.observe) if self._far else None)

    def _family(self) -> int:
        return 0 if self.address.path is not None and self.target.path is None else super()._family()


class DatagramServer(Server):
    """A server that knows no clients, and nothing of their options."""

    _fields = tuple(field for field in Server._fields if field not in ("clients", "tls"))


server_options = _gathered(
    "server",
    Server,
    address("server", tls=True),
    reach_options,
    serving_options,
    client_options,
    tls_options,
    clock_options,
    talk_options,
)

datagram_server_options = _gathered(
    "server",
    DatagramServer,
    address("server", udp=True),
    reach_options,
    serving_options,
    datagram_clock_options,
    talk_options,
)

relay_options = _gathered(
    "server",
    Relay,
    address("server", tls=True, target=True),
    reach_options,
    _connect_timeout_option,
    _source_option,
    serving_options,
    client_options,
    both_tls_options,
    clock_options,
    talk_options,
)
