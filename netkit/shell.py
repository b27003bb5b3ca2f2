"""What commands share: how their words are sorted, how a command runs, and every line said to a person."""

import functools
import os
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from netkit.core.errors import Exit, Failure, Invalid
from netkit.values import Text

if TYPE_CHECKING:
    from netkit.core.address import Role
    from netkit.options import Talk
    from netkit.report import Totals
    from netkit.services.filtering import Filter

F = TypeVar("F", bound=Callable[..., Any])

_LINE_MAX = 400  # bytes of a message: one write(2), which a pipe keeps whole
_GLANCE_MS = 50  # between two looks for a signal
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

# Returns what the terminal of stderr is to get before a line: what wipes the picture that is drawn there, if one is.
before_line: Callable[[], bytes] = bytes


def printable(text: str) -> str:
    """Return ``text`` in printable ASCII: other characters as ``\\xNN``, ``\\uNNNN`` or ``\\UNNNNNNNN``."""
    if text.isascii() and text.isprintable():
        return text
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


def draws(fd: int) -> bool:
    """Tell whether a descriptor is open on a terminal that knows escape sequences."""
    return os.isatty(fd) and os.environ.get("TERM") not in ("dumb", "unknown")


def same_terminal(one: int, other: int) -> bool:
    """Tell whether two descriptors are open on one terminal."""
    return os.isatty(one) and os.isatty(other) and os.fstat(one).st_rdev == os.fstat(other).st_rdev


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
        os.write(2, before_line() + line.encode() + b"\n")
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


def gathered(name: str, kind: Any, *options: Callable[[F], F]) -> Callable[[F], F]:
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
