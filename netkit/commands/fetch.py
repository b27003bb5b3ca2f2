"""Talk: get a URL"""

from typing import TYPE_CHECKING

import click

from netkit.cli import client as client_module
from netkit.cli import habits, options
from netkit.cli.command import ADDRESSES, DATA, ENDING, REQUEST, command, gathered
from netkit.cli.proxies import fetch_proxy_options
from netkit.cli.rules import Case, Values, excluded, needs, one_of
from netkit.cli.types import FIELD, FILE, METHOD, SIZE, TEXT, count

if TYPE_CHECKING:
    from netkit.protocols.url import Url
    from netkit.services.fetch.client import Asked


def _url(ctx: click.Context, param: click.Parameter, words: tuple[str, ...]) -> "Url":
    from netkit.protocols.url import parse

    if len(words) != 1:
        several = f"one URL is wanted, and these are {len(words)} words: {', '.join(map(repr, words))}"
        raise click.UsageError(several if words else "the URL is missing")
    return parse(words[0])


def _field(name: str) -> Case:
    return Case(f"-H {name}", lambda values: any(field.lower() == name.lower() for field, _ in values["fields"]))


def _shows_on_terminal(values: Values) -> bool:
    from netkit.services.progress import Ways

    return values["path"] is None and not Ways(reads=False, writes=True).receives


@command(
    words="URL",
    habits={
        **habits.HABITS,
        **habits.PROXY_HABITS,
        "-I --spider": "--head asks for the head alone",
        "-L --location": "redirects are followed anyway, see --max-redirects",
        "-X --request": "--method METHOD",
        "-d --data-raw --data-binary --post-data": "--data TEXT sends TEXT; @FILE names no file",
        "-T --upload-file": "--method PUT --data TEXT",
        "-F --form": "there are no forms with files; --data TEXT sends TEXT",
        "-f": "--fail",
        "-O --remote-name": "-o FILE names the file",
        "-C -c --continue --continue-at": "--resume goes on with what -o FILE has left",
        "-r --range": "-H 'Range: bytes=0-99'",
        "-z --time-cond": "-H 'If-Modified-Since: DATE'",
        "-k --no-check-certificate": "--insecure does not verify the certificate",
        "--cacert --ca-certificate": "--cafile FILE",
        "-u --user": "-H 'Authorization: ...', or http://USER:PASSWORD@HOST/",
        "-e --referer": "-H 'Referer: URL'",
        "-A -U --user-agent": "-H 'User-Agent: NAME'",
        "-b --cookie": "-H 'Cookie: NAME=VALUE'",
        "-x": "--proxy URL",
        "--noproxy --no-proxy": "--proxy '' uses no proxy, and no_proxy in the environment says where none is used",
        "-s -S --silent --show-error": "only failures are said anyway; -q says nothing at all",
        "-m --max-time": "--timeout D",
        "-# --progress-bar": "--progress shows it at once",
        "--compressed": "nothing is decompressed; -H 'Accept-Encoding: gzip' asks for it",
        "-l": "netkit listen ADDRESS listens",
    },
    rules=[
        excluded("--proxy", by=options.UNIX, why="a proxy connects to hosts and ports"),
        one_of("--head", "--method"),
        one_of("--head", "--data"),
        one_of(
            Case("user and password in the URL", lambda values: values["url"].userinfo is not None),
            _field("Authorization"),
        ),
        excluded("--include", "--max-size", by="--head", why="--head writes the head alone"),
        needs("--force", "--resume", on="-o", why="without -o FILE there is no file"),
        excluded("--raw", by="-o", why="it goes to a file"),
        excluded(
            *("--head", "--include", "--data"),
            Case("--method", lambda values: values["method"] not in (None, "GET")),
            _field("Range"),
            _field("If-Range"),
            by="--resume",
            why="--resume asks for the rest of a file",
        ),
        excluded("--progress", by="--head", why="a head is no transfer"),
        excluded(
            "--progress",
            by=Case("an answer shown on a terminal", _shows_on_terminal),
            why="the answer is shown on a terminal",
        ),
    ],
    examples=[
        ("netkit fetch https://example.org/ | less", "a page, on standard output"),
        ("netkit fetch -o big.iso --resume http://host/big.iso", "a file, from where it was cut"),
        ("netkit fetch --unix-socket /run/app.sock http://localhost/status --fail", "ask a server on a unix socket"),
    ],
)
@click.argument("url", nargs=-1, callback=_url)
@options.family_options
@options.dial_options
@fetch_proxy_options
@ADDRESSES.option(
    "--unix-socket", "socket", type=FILE, help="Connect to this unix socket instead of the host; @NAME is abstract."
)
@options.https_options
@options.timeout_options
@ENDING.option(
    "--max-redirects",
    type=count(zero=True, most=1000),
    default=10,
    help="Exit with 47 after more than N redirects (default: 10).",
)
@ENDING.option("--max-size", type=SIZE, help="Exit with 63 if there are more than SIZE bytes.")
@ENDING.option("--fail", help="Exit with 22, and write nothing, if the status is 400 or more.")
@REQUEST.option("--method", type=METHOD, help="Request method (default: GET, or POST with --data).")
@REQUEST.option("--head", help="Send a HEAD request, and write the status and the header.")
@REQUEST.option(
    "-H",
    "--header",
    "fields",
    type=FIELD,
    multiple=True,
    help="Add a header field, 'NAME: VALUE', or replace netkit's own; repeatable.",
)
@REQUEST.option(
    "--data", "body", type=TEXT, help="Send TEXT, as a form unless -H has a Content-Type; \\n and \\xNN are bytes."
)
@DATA.option("-o", "--output", "path", type=FILE, help="Write to FILE, which appears only when it is complete.")
@DATA.option("--force", help="Overwrite FILE if it exists.")
@DATA.option(
    "--resume", help="Continue a download of FILE that was cut, if the server still has that version; implies --fail."
)
@DATA.option("-i", "--include", help="Write the status and the header before the body.")
@options.raw_option
@options.verbosity_options
@options.progress_options
@client_module.client_options
@gathered("asked", "netkit.services.fetch.client.Asked")
def fetch(
    client: client_module.ClientOptions,
    asked: "Asked",
    socket: str | None,
    head: bool,
    path: str | None,
    force: bool,
    resume: bool,
    raw: bool,
    progress: options.ProgressOptions,
) -> int:
    """Get an http or https URL (HTTP/1.1) to standard output, or to a file.

    netkit connects to the host of each URL, or with --unix-socket to that socket for all of them. It goes through the
    proxies of --proxy, whatever the host, or else through the one that the environment names, as curl does: http_proxy,
    https_proxy, all_proxy and no_proxy, or the same in upper case, HTTP_PROXY excepted. "netkit help proxies" has more.

    It follows redirects to http and https only. To another origin (scheme, host and port) it sends neither the user and
    password of the URL, nor the client certificate, nor any -H field that could be a secret. A POST becomes a GET where
    browsers do so (301, 302, 303); 307 and 308 send --data again, but not from https to http.

    With -o the answer is written to FILE.netkit-part, which replaces FILE when it is complete; a symbolic link there is
    replaced, not followed. --resume continues a download that was cut, if the server named its version by an ETag or a
    Last-Modified: it asks for the rest, or for all if the version is another by now. Without --resume, what was left is
    dropped as soon as an answer comes.

    Progress is shown on stderr's terminal after half a second, unless the answer is shown on a terminal.

    Nothing is decompressed: bytes are written as they came. The answer must say clearly where it ends: one with two
    lengths, even equal ones, or with a length and chunks, is refused with exit code 8. On a terminal, control bytes are
    made visible.

    Exit code 0 means that all of the answer was written, whatever its status; with --fail a status of 400 or more is
    exit code 22. A body that ends early is 18.
    """
    from netkit.core.address import parse as parse_address
    from netkit.services.fetch.client import Fetch, check_fields, printed, saved
    from netkit.services.progress import Ways

    check_fields(asked.fields)
    if path == "-":
        raise click.UsageError("-o - is no file: without -o it goes to standard output")
    seen = not head and (path is not None or Ways(reads=False, writes=True).receives)
    show = progress.show(client.verbosity) if seen else None
    via = None if socket is None else parse_address(f"unix:{socket.removeprefix('unix:')}", "client")
    dial = client_module.UrlDialler(client, asked.url, via)
    wanted = asked._replace(
        method="HEAD" if head else asked.method or ("GET" if asked.body is None else "POST"),
        fail=asked.fail or resume,
        include=asked.include or head,
        idle_timeout=client.idle_timeout,
    )

    async def work() -> None:
        async with printed(raw=raw) if path is None else saved(path, wanted, force=force, resume=resume) as place:
            await Fetch(wanted, place, dial, client.observe, show, forwarder=dial.forwarder).run()

    return client.run(work())
