"""Click's commands and options in the style of netkit: sections, sorting of words from options, usage errors."""

import functools
import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from netkit.cli.habits import by_name
from netkit.cli.rules import Rule, check
from netkit.cli.run import answer
from netkit.cli.types import imported
from netkit.core.errors import Invalid
from netkit.core.record import Record
from netkit.output import console

if TYPE_CHECKING:
    from netkit.core.address import Endpoint, Role

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
_WORD = re.compile(r"-(\.?[0-9].*|inf|nan|)", re.DOTALL)  # "-" and negative numbers


class Option(click.Option):
    """A click option with a section in help and man page. It is a flag unless it has a type or is counted."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        if not kwargs.keys() & {"type", "count"}:
            kwargs["is_flag"] = True
        super().__init__(*args, **kwargs)
        self.section = section
        self.takes_value = not (self.is_flag or self.count)


class Heading(NamedTuple):
    """A heading over options in help and man pages."""

    title: str

    def option(self, *names: str, **attributes: Any) -> Decorator:
        """Add an Option."""
        return click.option(*names, cls=Option, section=self.title, **attributes)


ADDRESSES = Heading("Addresses")
CHECKING = Heading("Checking")
REQUEST = Heading("Request")
SERVING = Heading("Serving")
TLS = Heading("TLS")
ENDING = Heading("Ending")
DATA = Heading("Data")
TIME = Heading("Time")
OUTPUT = Heading("Output")


class Command(click.Command):
    """A command that takes words after ``--`` as COMMAND, and negative numbers as words. Usage errors are one line.

    ``examples`` are pairs of what to type and what it does. ``habits`` maps options of other tools, "-I --spider", to
    what to type here. ``rules`` say which options go together; the first that is broken is a usage error.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[tuple[str, str]],
        words: str,
        habits: dict[str, str] | None = None,
        rules: Sequence[Rule] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.add_help_option = False
        self.examples = examples
        self.words = words
        self.takes_command = "-- COMMAND" in words
        self.habits = by_name(habits or {})
        self.rules = rules
        self.params.append(
            Option(
                ["-h", "--help"],
                expose_value=False,
                is_eager=True,
                callback=show_help,
                section="Output",
                help="Show this help.",
            )
        )
        self.options = {name: p for p in self.params if isinstance(p, Option) for name in p.opts}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Sort options from words first, so that click cannot take one for the other."""
        console.program = ctx.command_path
        with _usage_errors(ctx):
            options, words, command = self._sort(args)
            if command is not None and not self.takes_command:
                raise click.UsageError("words after '--' would be a command to run, and there is none here")
            if command is not None and not command:
                raise click.UsageError("COMMAND is missing after '--'")
            rest = super().parse_args(ctx, [*options, "--", *words])
            if self.takes_command:
                ctx.params["command"] = tuple(command or ())
            check(self.rules, self.options, ctx)
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Invalid becomes a usage error."""
        with _usage_errors(ctx):
            return super().invoke(ctx)

    def get_help(self, ctx: click.Context) -> str:
        from netkit.cli.pages import help_page

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
            if not arg.startswith("-") or (_WORD.fullmatch(arg) and arg[:2] not in self.options):
                words.append(arg)
                continue
            if "-" + arg.partition("=")[0] in self.options:
                raise click.NoSuchOption(arg, possibilities=["-" + arg])
            if arg in self.habits and arg not in self.options:  # before click takes it for several short options
                raise click.NoSuchOption(arg)
            options.append(arg)
            if self.wants_value(arg):
                if not rest:
                    name = arg if arg.startswith("--") else "-" + arg[-1]
                    raise click.UsageError(f"option {name!r} needs a value")
                options.append(rest.pop(0))
        return options, words, None

    def wants_value(self, arg: str) -> bool:
        """Whether the next word is the value of this option."""
        if arg.startswith("--"):
            option = self.options.get(arg)
            return option is not None and option.takes_value
        for position, letter in enumerate(arg[1:], 2):
            option = self.options.get("-" + letter)
            if option is None:
                return False
            if option.takes_value:
                return position == len(arg)
        return False


def check_again(**later: Any) -> None:
    """Check the rules of the running command again, with values that are known only now. Raises Invalid."""
    ctx = click.get_current_context()
    assert isinstance(ctx.command, Command)
    ctx.params.update(later)
    check(ctx.command.rules, ctx.command.options, ctx)


@contextmanager
def _usage_errors(ctx: click.Context) -> Iterator[None]:
    """Turn Invalid, and usage errors of click, into usage errors of this command."""
    try:
        yield
    except click.UsageError as error:
        error.ctx = ctx
        raise
    except Invalid as error:
        usage = click.UsageError(str(error), ctx)
        usage.hint = error.hint  # type: ignore[attr-defined]
        raise usage from error


def command(*, rules: Sequence[Rule] = (), **attributes: Any) -> Callable[[Callable[..., Any]], Command]:
    """Make a function a netkit command, with ``rules`` and those of its options; ``attributes`` are Command's."""

    def decorate(function: Callable[..., Any]) -> Command:
        return click.command(cls=Command, rules=[*rules, *_rules_of(function)], **attributes)(function)

    return decorate


def _rules_of(function: Callable[..., Any]) -> list[Rule]:
    """The list of the rules that ``chained`` has added to a function, from top to bottom."""
    found: list[Rule] = vars(function).setdefault("rules", [])
    return found


def show_help(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """The callback of --help: print the help page and exit."""
    if value:
        ctx.exit(answer(ctx.get_help()))


def address(
    role: "Role",
    *,
    udp: bool = False,
    conversation: bool = False,
    rest_as: str | None = None,
    target: bool = False,
) -> Decorator:
    """Add the words of an address; the function gets it as an Endpoint named ``address``.

    With ``target``, a client's address follows, which the function gets as ``target``. With ``udp`` the address is for
    datagrams; with ``conversation`` it may begin with ``udp:``. Words after it are a usage error, or with ``rest_as``
    texts, which the function gets by that name as a tuple of bytes.
    """

    def read(ctx: click.Context, param: click.Parameter, words: tuple[str, ...]) -> "Endpoint":
        from netkit.core.address import take

        try:
            endpoint, rest = take(words, role, udp=conversation)
        except Invalid as error:
            raise Invalid(f"{error}{_misread(ctx, words)}") from error
        if udp:
            endpoint.check_datagrams()
        last = endpoint
        if target:
            try:
                last, rest = take(rest, "client")
            except Invalid as error:
                raise Invalid(f"TARGET: {error}") from error
            ctx.params["target"] = last
        if rest_as:
            from netkit.services import text

            ctx.params[rest_as] = tuple(map(text.parse, rest))
        elif rest:
            meant = _misread(ctx, words) or (_as_input(rest[0]) if conversation else "")
            raise Invalid(f"unexpected word {rest[0]!r} after address {str(last)!r}{meant}")
        return endpoint

    return click.argument("address", nargs=-1, callback=read)


def _misread(ctx: click.Context, words: tuple[str, ...]) -> str:
    """An addition to an error of the address if -q got a number, as in nc."""
    if ctx.params.get("quiet") and len(words) > 1 and words[0].isascii() and words[0].isdigit():
        return "; -q takes no number here, it silences: see --grace"
    return ""


def _as_input(word: str) -> str:
    """An addition to an error of the address if the name of a file follows it."""
    import shlex

    return f": < {shlex.quote(word)} sends the file" if os.path.isfile(word) else ""


def chained(*options: Decorator, rules: Sequence[Rule] = ()) -> Decorator:
    """Add several options, in this order, and their ``rules``."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for add in reversed(options):
            function = add(function)
        _rules_of(function)[:0] = rules
        return function

    return decorate


def gathered(name: str, kind: Callable[..., Any] | str, *options: Decorator, rules: Sequence[Rule] = ()) -> Decorator:
    """Add ``options`` and their ``rules``, and pass the function a ``kind``, named ``name``, made from option values.

    ``kind`` gets those of its parameters that are options, of ``options`` or above this decorator; the others keep
    their defaults. It may be given by its path, to be imported when the command runs.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(**values: Any) -> Any:
            make = imported(kind) if isinstance(kind, str) else kind
            values[name] = make(**{field: values.pop(field) for field in _fields_of(make) if field in values})
            return function(**values)

        return chained(*options, rules=rules)(call)

    return decorate


def _fields_of(kind: Callable[..., Any]) -> Iterable[str]:
    return kind.fields if isinstance(kind, type) and issubclass(kind, Record) else inspect.signature(kind).parameters
