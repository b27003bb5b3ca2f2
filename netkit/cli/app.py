"""The command group: each file in ``commands`` is a command, imported when it is called."""

import os
import re
from collections.abc import Sequence
from itertools import takewhile

import click

from netkit.cli.command import Command, show_help
from netkit.cli.habits import COMMAND_HABITS, HABITS, by_name
from netkit.cli.run import answer
from netkit.cli.types import imported
from netkit.core.errors import Exit, Invalid, out_of_memory, ran_out
from netkit.output import console
from netkit.output.console import emit, hint, say, tell_failure
from netkit.output.jsonl import mistaken

_IN_FRONT = re.compile(r"-[vq]+|--verbose|--quiet|--json")  # options of a command that may come before its name
_FOLDER = os.path.join(os.path.dirname(os.path.dirname(__file__)), "commands")


class Netkit(click.Group):
    """The commands in the folder ``commands``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Move options before the command after it: ``netkit -v connect`` becomes ``netkit connect -v``."""
        console.program = ctx.command_path
        front = list(takewhile(_IN_FRONT.fullmatch, args))
        name, *rest = args[len(front) :] or [""]
        if front and not name:
            raise click.UsageError(f"a command is missing after {front[-1]!r}", ctx)
        if front:
            args = [name, *([] if name.startswith("-") else front), *rest]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        try:
            files = os.listdir(_FOLDER)
        except NotADirectoryError:  # it is in a zip archive
            from pkgutil import iter_modules

            return sorted(module.name.replace("_", "-") for module in iter_modules([_FOLDER]))
        return sorted(
            file.removesuffix(".py").replace("_", "-")
            for file in files
            if file.endswith(".py") and file != "__init__.py"
        )

    def get_command(self, ctx: click.Context, name: str) -> Command | None:
        """Import a command; None if there is none of that name."""
        if name not in self.list_commands(ctx):
            return None
        word = name.replace("-", "_")
        found: Command = imported(f"netkit.commands.{word}.{word}")
        if found.help is None:
            found.help = _docstring(word)
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str, Command, list[str]]:
        """Find the command that the first word names."""
        name, *rest = args
        found = self.get_command(ctx, name)
        if found is None:
            raise click.UsageError(f"no such command {name!r}{_instead(args, self.list_commands(ctx))}", ctx)
        return name, found, rest

    def get_help(self, ctx: click.Context) -> str:
        from netkit.cli.pages import overview

        return overview(summaries(self.list_commands(ctx)))


def summaries(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Section, name and summary of commands, read from the first line of each file without importing it."""
    found = []
    for name in names:
        section, _, summary = _first_line(name.replace("-", "_") + ".py").strip().strip('"').partition(": ")
        found.append((section, name, summary.rstrip(".")))
    return found


def _first_line(file: str) -> str:
    try:
        with open(os.path.join(_FOLDER, file), encoding="utf-8") as source:
            return source.readline()
    except NotADirectoryError:  # it is in a zip archive
        from pkgutil import get_data

        return (get_data("netkit.commands", file) or b"").decode().partition("\n")[0]


def _docstring(word: str) -> str | None:
    """The docstring of the function of a command, read from its source, as ``python -OO`` keeps none."""
    import ast
    from pkgutil import get_data

    for each in ast.parse(get_data("netkit.commands", f"{word}.py") or b"").body:
        if isinstance(each, ast.FunctionDef) and each.name == word:
            return ast.get_docstring(each)
    return None


@click.group(cls=Netkit, invoke_without_command=True, no_args_is_help=False, add_help_option=False)
@click.option("-h", "--help", is_flag=True, expose_value=False, is_eager=True, callback=show_help)
@click.pass_context
def netkit(ctx: click.Context) -> int:
    """Talk TCP, UDP and unix sockets from the shell."""
    return answer(ctx.get_help()) if ctx.invoked_subcommand is None else Exit.OK


def all_commands() -> dict[str, Command]:
    """Every command by its name. Imports all of them."""
    context = click.Context(netkit)
    return {name: netkit.resolve_command(context, [name])[1] for name in netkit.list_commands(context)}


def run(args: list[str]) -> int:
    """Run netkit with ``args`` (without the program's name) and return its exit code."""
    try:
        with netkit.make_context("netkit", list(args)) as ctx:
            return netkit.invoke(ctx) or 0
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.UsageError as error:
        sentence = _sentence(error)
        if error.ctx and _wants_json(error.ctx.command, args):
            emit("error", **mistaken(sentence))
            return Exit.USAGE
        say(f"{error.ctx.command_path if error.ctx else 'netkit'}: {sentence}")
        if what := getattr(error, "hint", ""):
            hint(what)
        return Exit.USAGE
    except Exception as bug:
        if os.environ.get("NETKIT_DEBUG"):
            raise
        console.writer = None  # whose kernel no longer runs
        if ran_out(bug):
            tell_failure(out_of_memory())
            return Exit.TOO_BIG
        say(f"netkit: this is a bug in netkit: {type(bug).__name__}: {bug} (NETKIT_DEBUG=1 shows where)")
        return Exit.BUG


def _wants_json(command: click.Command, args: Sequence[str]) -> bool:
    """Whether a usage error is written as JSON, as other failures of this command are; ``args`` are as typed."""
    typed = set(takewhile(_IN_FRONT.fullmatch, args))
    if isinstance(command, Command):
        if "--json" not in command.options:
            return False
        words = iter(args)
        for word in takewhile(lambda word: word != "--", words):
            typed.add(word)
            if word.startswith("-") and command.wants_value(word):
                next(words, None)
    return "--json" in typed and not typed & {"-q", "--quiet"}


def _sentence(error: click.UsageError) -> str:
    """The message of an error of click's in the style of netkit: lower case, one line, the option first."""
    command = error.ctx.command if error.ctx else None
    if isinstance(error, click.NoSuchOption):
        name = error.option_name
        habit = getattr(command, "habits", by_name(HABITS)).get(name)
        if habit:
            return f"no such option {name!r}: {habit}"
        meant = meant_by(name, error.possibilities or ())
        if not meant and isinstance(command, Netkit):
            meant = ": options of a command stand behind it"
        return f"no such option {name!r}{meant}"
    if isinstance(error, click.BadOptionUsage):
        wants = "takes no value" if "not take" in error.message else "needs a value"
        return f"option {error.option_name!r} {wants}"
    if isinstance(error, click.BadParameter) and isinstance(error.param, click.Option):
        return f"{max(error.param.opts, key=len)}: {error.message}"
    return error.message


def meant_by(word: str, known: Sequence[str]) -> str:
    """An addition to the message that ``word`` is not in ``known``: the similar word that was meant, if any."""
    from difflib import get_close_matches

    close = [name for name in known if word and name.startswith(word)] or get_close_matches(word, known, 1, cutoff=0.75)
    return f", did you mean {close[0]!r}?" if close else ""


def advice(word: str, known: Sequence[str]) -> str:
    """An addition to the message that ``word`` is not in ``known``: what to type instead, or the similar word."""
    habit = by_name(COMMAND_HABITS).get(word)
    return f": {habit}" if habit else meant_by(word, known)


def _instead(words: Sequence[str], commands: Sequence[str]) -> str:
    """An addition to the message that the first word is not a command: what to type instead, if known."""
    name = words[0]
    return advice(name, commands) or _as_address([word for word in words if not word.startswith("-")] or [name])


def _as_address(words: Sequence[str]) -> str:
    """An addition to the message if an address or a URL was typed in place of a command."""
    import shlex

    from netkit.core import address

    first = words[0]
    typed = shlex.quote(first)
    try:
        if first.startswith(("http://", "https://")):
            return f": netkit fetch {typed} gets it"
        if "://" in first:
            imported("netkit.services.portcheck.targets.take_targets")([first], "tcp")
            return f": netkit portcheck {typed} says whether it is ready"
        if len(words) == 1 and address.is_digits(first):
            if not address.parse_port(first, "server"):
                return f": netkit listen {first} listens on a free port"
            return f": netkit listen {first} listens there, netkit connect :{first} connects"
        if len(words) == 1 and (first == "localhost" or ("." in first and ":" not in first)):
            address.check_host(first)
            return f": netkit connect {typed} PORT connects"
        _, rest = address.take(words, "client", udp=True)
        return f": netkit connect {shlex.join(words[: len(words) - len(rest)])} connects"
    except Invalid:
        return ""
