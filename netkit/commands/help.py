"""More: show a manual page"""

import click

from netkit.cli.command import command


@command(
    words="[COMMAND|TOPIC]",
    examples=[
        ("netkit help", "show commands, addresses and exit codes"),
        ("netkit help connect", "show all about one command"),
        ("netkit help ending", "show when a conversation ends"),
    ],
)
@click.argument("words", nargs=-1)
@click.pass_context
def help(ctx: click.Context, words: tuple[str, ...]) -> int:
    """Show the manual page of COMMAND, of netkit itself, or a chapter about TOPIC.

    The topics are addresses, ending, exit-codes, proxies and values. The pages are part of netkit: man and installed
    man pages are not needed.

    On a terminal a pager shows the page. It is the first of NETKIT_PAGER, MANPAGER and PAGER that is set, or else less
    if it is installed. With cat, or an empty value, no pager is used.
    """
    from netkit.cli.app import advice, netkit, summaries
    from netkit.cli.pager import show
    from netkit.cli.pages import PAGE_WIDTH, columns, command_page, overview_page, to_text, topic_text
    from netkit.cli.topics import TOPICS

    if len(words) > 1:
        raise click.UsageError(f"unexpected word {words[1]!r} after COMMAND {words[0]!r}", ctx)
    width = columns(PAGE_WIDTH)
    commands = netkit.list_commands(ctx)
    if not words:
        return show(to_text(overview_page(summaries(commands)), width))
    [word] = words
    if word in TOPICS:
        return show(topic_text(TOPICS[word].sections, width))
    found = netkit.get_command(ctx, word)
    if found is None:
        raise click.UsageError(f"no such command or topic {word!r}{advice(word, [*commands, *TOPICS])}", ctx)
    [(_, name, summary)] = summaries([word])
    return show(to_text(command_page(found, name, summary), width))
