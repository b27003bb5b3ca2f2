"""More: show a man page as text"""

import click

from netkit.cli import run
from netkit.cli.command import command


@command(
    words="[COMMAND|TOPIC]",
    examples=[
        ("netkit help", "the commands, addresses and exit codes"),
        ("netkit help connect", "all about one command"),
        ("netkit help ending", "when a conversation ends"),
    ],
)
@click.argument("words", nargs=-1)
@click.pass_context
def help(ctx: click.Context, words: tuple[str, ...]) -> int:
    """Show the man page of COMMAND, or of netkit itself, as plain text.

    The TOPIC is "ending", when a conversation ends, or "proxies", how to go through them. The pages are part of netkit:
    neither man nor installed man pages are needed.
    """
    from netkit.cli.app import netkit, summaries
    from netkit.cli.pages import command_page, overview_page, to_text, topic_text
    from netkit.cli.topics import TOPICS

    if len(words) > 1:
        raise click.UsageError(f"unexpected word {words[1]!r} after COMMAND {words[0]!r}", ctx)
    if words and words[0] in TOPICS:
        return run.answer(topic_text(TOPICS[words[0]]))
    if words:
        name, command, _ = netkit.resolve_command(ctx, list(words))
        [(_, _, summary)] = summaries([name])
        page = command_page(command, name, summary)
    else:
        page = overview_page(summaries(netkit.list_commands(ctx)))
    return run.answer(to_text(page))
