"""More: print a completion script"""

import click

from netkit.cli import run
from netkit.cli.command import command


@command(
    words="SHELL",
    examples=[
        ("source <(netkit completion bash)", "for this shell, or put it into ~/.bashrc"),
        ("netkit completion fish | source", "for this shell, or put it into ~/.config/fish/config.fish"),
    ],
)
@click.argument("shells", nargs=-1)
@click.pass_context
def completion(ctx: click.Context, shells: tuple[str, ...]) -> int:
    """Print the completion script for bash, zsh or fish.

    It completes commands, options and their values, files, the names in /etc/hosts and known_hosts, port names after
    HOST:, and the topics of netkit help. It does not start netkit. For zsh put the line for bash, with zsh in place of
    bash, into ~/.zshrc. The scripts are also installed with netkit, in share/bash-completion/completions,
    share/zsh/site-functions and share/fish/vendor_completions.d. If your shell looks there, nothing else is needed.
    """
    from netkit.cli.completion import SHELLS, stored

    if len(shells) != 1 or shells[0] not in SHELLS:
        raise click.UsageError(f"SHELL is one of {', '.join(SHELLS)}", ctx)
    return run.answer(stored(shells[0]).rstrip("\n"))
