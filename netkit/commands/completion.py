"""More: for bash, zsh and fish"""

import click

from netkit.cli import run
from netkit.cli.command import command


@command(
    words="SHELL",
    examples=[
        ("source <(netkit completion bash)", "now, or in ~/.bashrc; for zsh in ~/.zshrc"),
        ("netkit completion fish | source", "now, or in ~/.config/fish/config.fish"),
    ],
)
@click.argument("shells", nargs=-1)
@click.pass_context
def completion(ctx: click.Context, shells: tuple[str, ...]) -> int:
    """Print the script by which bash, zsh or fish completes the words of netkit.

    It completes commands, options and their values, files, the names in /etc/hosts and known_hosts, HOST: with names of
    ports, and the topics of netkit help. netkit is not started for it. The scripts are also installed beside netkit, in
    share/bash-completion/completions, share/zsh/site-functions and share/fish/vendor_completions.d: where a shell looks
    there, nothing else is needed.
    """
    from netkit.cli.completion import SHELLS, stored

    if len(shells) != 1 or shells[0] not in SHELLS:
        raise click.UsageError(f"SHELL is one of {', '.join(SHELLS)}", ctx)
    return run.answer(stored(shells[0]).rstrip("\n"))
