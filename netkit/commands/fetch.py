"""Talk: get a URL"""

from typing import TYPE_CHECKING

import click

from netkit.cli import client as client_module
from netkit.cli import habits, options
from netkit.cli.command import ADDRESSES, DATA, ENDING, REQUEST, TIME, command, gathered
from netkit.cli.proxies import fetch_proxy_options
from netkit.cli.rules import Case, Values, excluded, needs, one_of
from netkit.cli.run import conclude
from netkit.cli.types import DURATION_OR_ZERO, FIELD, FILE, METHOD, SIZE, Parsed, count, text_beside, word

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from netkit.core.address import Endpoint
    from netkit.protocols.url import Url
    from netkit.services.fetch.asked import Asked
    from netkit.services.fetch.places import Place


def _urls(ctx: click.Context, param: click.Parameter, words: tuple[str, ...]) -> "tuple[Url, ...]":
    from netkit.protocols.url import parse

    if not words:
        raise click.UsageError("the URL is missing")
    return tuple(map(parse, words))


def _field(name: str) -> Case:
    return Case(f"-H {name}", lambda values: any(field.lower() == name.lower() for field, _ in values["fields"]))


def _shows_on_terminal(values: Values) -> bool:
    import os

    return not (values["path"] or values["remote_name"] or values["data_file"]) and os.isatty(1)


_FILES = ("--output", "--remote-name")
_USERINFO = Case("user and password in the URL", lambda values: any(url.userinfo is not None for url in values["urls"]))
_SEVERAL = Case("several URLs", lambda values: len(values["urls"]) > 1)


@command(
    words="URL...",
    habits={
        **habits.HABITS,
        **habits.PROXY_HABITS,
        "-I --spider": "--head asks only for the head",
        "-L --location": "redirects are followed anyway, see --max-redirects",
        "-X --request": "--method METHOD",
        "-d --data-raw --data-binary --post-data": "--data TEXT sends TEXT, --data-file FILE what is in a file",
        "--post-file --json-file": "--data-file FILE",
        "-T --upload-file": "--method PUT --data-file FILE",
        "-F --form": "there are no forms with files; --data TEXT sends TEXT",
        "-f": "--fail",
        "-C -c --continue --continue-at": "--resume continues what -o FILE has left",
        "-r --range": "-H 'Range: bytes=0-99'",
        "-z --time-cond": "-H 'If-Modified-Since: DATE'",
        "-k --no-check-certificate": "--insecure does not verify the certificate",
        "--cacert --ca-certificate": "--cafile FILE",
        "--http-user --http-password": "--user USER:PASSWORD",
        "-e --referer": "-H 'Referer: URL'",
        "-A -U --user-agent": "-H 'User-Agent: NAME'",
        "-b --cookie": "-H 'Cookie: NAME=VALUE'",
        "-x": "--proxy URL",
        "--noproxy --no-proxy": "--proxy '' uses no proxy, and no_proxy in the environment says where none is used",
        "-s -S --silent --show-error": "only failures are said anyway; -q says nothing at all",
        "-m --max-time": "--timeout D",
        "-# --progress-bar": "--progress shows it at once",
        "--retry-max-time --retry-connrefused --retry-delay --tries -t": "--retry N tries again, --wait D for so long",
        "-l": "netkit listen ADDRESS listens",
        "--ssl": "an https URL is secured",
    },
    rules=[
        excluded("--proxy", by=options.UNIX, why="a proxy connects to hosts and ports"),
        one_of("--head", "--method"),
        one_of("--head", "--data", "--data-file"),
        one_of(_USERINFO, "--user", _field("Authorization")),
        one_of("--compressed", _field("Accept-Encoding")),
        one_of(*_FILES),
        excluded("--output", by=_SEVERAL, why="-O writes each of several URLs to a file of its own"),
        excluded("--data-file -", by=_SEVERAL, why="stdin can be sent to only one URL"),
        excluded("--resolve", by=options.UNIX, why="a unix socket is asked for all URLs"),
        excluded("--resolve", by="--proxy", why="the proxy connects"),
        excluded("--include", "--max-size", by="--head", why="--head writes only the head"),
        needs("--force", "--resume", on=_FILES, why="without -o FILE or -O there is no file"),
        excluded("--raw", by=_FILES, why="it goes to a file"),
        excluded(
            *("--head", "--include", "--data", "--data-file", "--compressed"),
            Case("--method", lambda values: values["method"] not in (None, "GET")),
            *map(_field, ("Range", "If-Range", "If-None-Match", "If-Modified-Since")),
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
        ("netkit fetch -o big.iso --resume http://host/big.iso", "download a file, or continue if it was cut"),
        ("netkit fetch --wait 30s --fail http://localhost:8080/health", "wait until a server is healthy"),
    ],
)
@click.argument("urls", nargs=-1, callback=_urls)
@options.family_options
@options.dial_options
@fetch_proxy_options
@ADDRESSES.option(
    "--unix-socket", "socket", type=FILE, help="Connect to this unix socket instead of the host; @NAME is abstract."
)
@ADDRESSES.option(
    "--resolve",
    "resolved",
    type=Parsed("HOST:PORT:ADDR", "netkit.protocols.url.parse_resolved"),
    multiple=True,
    help="Connect to ADDR for URLs of HOST and PORT, without looking HOST up; repeatable.",
)
@options.https_options
@options.timeout_options
@TIME.option("--retry", type=count(zero=True), help="Try again up to N times while the server cannot answer.")
@TIME.option(
    "--wait",
    "patience",
    type=DURATION_OR_ZERO,
    help="Try again for D while the server cannot answer, then exit with 28.",
)
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
    help="Add or replace a header field, 'NAME: VALUE'; 'NAME:' removes one of netkit's own; repeatable.",
)
@REQUEST.option(
    "-u",
    "--user",
    type=word("USER[:PASSWORD]"),
    help="Log in as USER (Basic); without PASSWORD, it is taken from NETKIT_PASSWORD in the environment.",
)
@REQUEST.option(
    "--data",
    "body",
    type=text_beside("--data", stdin=True),
    help="Send TEXT, as a form unless -H sets a Content-Type; \\n and \\xNN are bytes.",
)
@REQUEST.option("--data-file", type=FILE, help="Send the contents of FILE, or of stdin for -, as they are.")
@REQUEST.option("--compressed", help="Ask for a compressed body (gzip, deflate), and decompress it.")
@DATA.option("-o", "--output", "path", type=FILE, help="Write to FILE, which appears only when it is complete.")
@DATA.option("-O", "--remote-name", help="Like -o, with the last part of the URL's path as FILE.")
@DATA.option("--force", help="Overwrite FILE if it exists.")
@DATA.option(
    "--resume", help="Continue a download of FILE that was cut, if the server still has that version; implies --fail."
)
@DATA.option("-i", "--include", help="Write the status and the header before the body.")
@options.raw_option
@options.verbosity_options
@options.stats_option
@options.progress_options
@client_module.client_options
@gathered("asked", "netkit.services.fetch.asked.Asked")
def fetch(
    client: client_module.ClientOptions,
    asked: "Asked",
    urls: "tuple[Url, ...]",
    user: str | None,
    socket: str | None,
    resolved: "tuple[tuple[Endpoint, Endpoint], ...]",
    retry: int | None,
    patience: float | None,
    head: bool,
    data_file: str | None,
    path: str | None,
    remote_name: bool,
    force: bool,
    resume: bool,
    raw: bool,
    progress: options.ProgressOptions,
) -> int:
    """Get http or https URLs (HTTP/1.1), one after the other, to standard output or to files.

    Exit code 0 means that all of the answer was written, whatever its status; with --fail a status of 400 or more is
    exit code 22. A body that ends early is 18. With several URLs netkit tries all of them, unless standard output
    fails, and prints a line for each failure. The exit code is that of the worst failure: first any code that is not in
    this list, then 23, 26, 60, 35, 8, 63, 28, 55, 56, 18.

    With -o netkit writes the answer to FILE.netkit-part, which becomes FILE when it is complete. A FILE that exists is
    replaced only with --force; of a symbolic link the link itself is replaced. Without --resume, a part left by an
    earlier run is dropped as soon as an answer comes.

    --resume continues a download that was cut, if the server gave its version an ETag or a Last-Modified. It asks for
    the rest, or for everything if the server has another version now. If FILE is complete and the server still has the
    same version, FILE stays and the exit code is 0. The version is in an extended attribute of the file,
    user.netkit.version, without the URL. A FILE that another tool wrote, or began to write, counts as the same version
    if the server's was not modified since the last byte of FILE was written, and its last 64 KiB are equal; otherwise
    the exit code is 23.

    netkit follows redirects to http and https only. To another origin (scheme, host and port) it sends neither the user
    and password, nor the client certificate, nor any -H field that could be a secret; each URL on the command line gets
    them. On 301, 302 and 303 a POST becomes a GET, as in browsers. On 307 and 308 the body is sent again, but not from
    https to http, and not if it came from a pipe: that is exit code 26.

    --data-file sends a file as it is, with its length, and a pipe in chunks as they come; -H sets the Content-Type. The
    method is POST unless --method names another.

    --retry and --wait try again while the server refuses, is unreachable or silent, its name does not resolve, or it
    answers 408, 429, 502, 503 or 504. Only GET, HEAD, PUT, DELETE and OPTIONS are repeated, and requests that were not
    sent at all. The pause is what Retry-After says, or else 1s, doubled each time up to 1m; with --wait alone 20ms, up
    to 500ms. netkit does not wait if the server asks for more than an hour, or for more than --wait has left. After the
    last try of --retry netkit takes the answer as it is; when --wait is over the exit code is 28. A server is not
    silent while it takes more of an upload each second, or has taken all that came of it so far.

    netkit connects to the host of each URL, or with --unix-socket to that socket for all URLs. It keeps the connection
    for the next URL of the same server, unless that request must not be repeated. It goes through the proxies of
    --proxy for all hosts, or else through the one that the environment names, as curl does: http_proxy, https_proxy,
    all_proxy and no_proxy, or the same in upper case, except for HTTP_PROXY. "netkit help proxies" has more.

    Without --compressed nothing is decompressed: bytes are written as they came. --max-size limits what is written. The
    answer must say clearly where it ends: one with two lengths, even equal ones, or with a length and chunks, is
    refused with exit code 8. On a terminal, control bytes are made visible, and an answer with a NUL byte is refused
    with exit code 23, unless --raw is given.

    Progress is shown on stderr's terminal after half a second, unless the answer itself is shown on a terminal.
    """
    import os

    from netkit.core.address import parse as parse_address
    from netkit.core.errors import Exit, Failure, most_severe
    from netkit.services.fetch.asked import check_fields, login
    from netkit.services.fetch.places import file_names
    from netkit.services.fetch.timing import Timing

    check_fields(asked.fields)
    if path == "-":
        raise click.UsageError("-o - is no file: without -o it goes to standard output")
    paths = file_names(urls) if remote_name else [path] if path is not None else []
    if user is not None:
        urls = tuple(url.with_user(*login(user)) for url in urls)
    seen = data_file is not None or (not head and (paths or not os.isatty(1)))
    show, tell = progress.show_and_tell(client.verbosity) if seen else (None, None)
    via = None if socket is None else parse_address(f"unix:{socket.removeprefix('unix:')}", "client")
    timing = Timing()
    client.watch(timing.watching)
    dial = client_module.UrlDialler(client, urls, via, resolved)
    has_body = asked.body is not None or data_file is not None
    wanted = asked._replace(
        method="HEAD" if head else asked.method or ("POST" if has_body else "GET"),
        fail=asked.fail or resume,
        include=asked.include or head,
        idle_timeout=client.idle_timeout,
    )
    failures: list[Failure] = []

    def failed(failure: Failure) -> None:
        if len(urls) == 1 or (failure.exit is Exit.WRITE and not paths):
            raise failure
        conclude(failure, client.verbosity)
        failures.append(failure)

    async def work() -> int:
        from contextlib import AsyncExitStack, nullcontext

        from netkit.services.fetch.client import Fetching, fetch_each
        from netkit.services.fetch.connections import connections
        from netkit.services.fetch.data_file import opened
        from netkit.services.fetch.places import printed

        async with AsyncExitStack() as stack:
            body = asked.body if data_file is None else await stack.enter_async_context(opened(data_file))
            each = [wanted._replace(url=url, body=body) for url in urls]
            places: Sequence[AbstractContextManager[Place]]
            if paths:
                from netkit.services.fetch.saved import saved

                places = [saved(name, one, force=force, resume=resume) for name, one in zip(paths, each, strict=True)]
            else:
                stdout = await stack.enter_async_context(printed(progress.wiping(), raw=raw))
                places = [nullcontext(stdout)] * len(each)
            links = await stack.enter_async_context(connections(dial, client.observe))
            how = Fetching(links, dial.forwarder, client.observe, timing, retry, patience)
            await fetch_each(zip(each, places, strict=True), how, show, tell, failed)
        return most_severe(failures).exit if failures else Exit.OK

    return client.run(work())
