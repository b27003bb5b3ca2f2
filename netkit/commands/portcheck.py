"""Look: check ports, or wait for services"""

from typing import TYPE_CHECKING

import click

from netkit.cli import client as client_module
from netkit.cli import habits, options, run
from netkit.cli.command import CHECKING, OUTPUT, TIME, TLS, check_again, command, gathered
from netkit.cli.layers import layer_options
from netkit.cli.proxies import proxy_options
from netkit.cli.rules import Case, Values, excluded, needs, one_of
from netkit.cli.types import COUNT, DURATION, DURATION_OR_ZERO, FIELD, HEX, REGEX, STATUSES, TEXT, choice
from netkit.output.console import View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from netkit.services.portcheck.check import Check
    from netkit.services.portcheck.targets import Target


def _targets(ctx: click.Context, param: click.Parameter, words: tuple[str, ...]) -> "list[Target]":
    return _take(ctx.params, words)  # options that were typed come before arguments


def _take(given: Values, words: "Sequence[str]") -> "list[Target]":
    from netkit.services.portcheck.targets import take_targets

    return take_targets(words, "udp" if given.get("udp") else "tcp", tls=given.get("tls", False))


_TLS = Case("--tls", options.SECURED.holds)
_TCP_SEND = Case("--send", lambda values: values["text"] is not None and not values["udp"])
_SERVICE = Case("a URL as TARGET", lambda values: any(target.probe for target in values["targets"]))
_PLAIN_SERVICE = Case(
    "a URL other than of http or https",
    lambda values: any(target.probe and target.url is None for target in values["targets"]),
)
_HTTP = Case("a URL of http or https", lambda values: any(target.url for target in values["targets"]))
_DATAGRAMS = Case(
    "a URL that is asked by datagrams",
    lambda values: any(target.probe and target.protocol == "udp" for target in values["targets"]),
)
_UNIX = Case("a unix socket", lambda values: any(target.path for target in values["targets"]))
_ASKED = "a URL says itself what is asked"
_MAX_KEPT = 1 << 18  # results that are in memory at one time
_REPORTS = ("tap", "junit", "github")
_FORMATS = ("text", "json", *_REPORTS)


@command(
    words="TARGET... [-- COMMAND...]",
    habits={
        **habits.HABITS,
        **habits.TLS_HABITS,
        "-z": "netkit portcheck only looks anyway",
        "-u": "--udp checks UDP ports",
        "-p": "the ports are part of the target: HOST:22,80,8000-8010",
        "-t": "-w D is the time for each port, --wait D for all to be there",
        "-i": "--interval D is the time between two rounds of --wait",
        "-N": "nothing is sent unless --send says so",
        "-x": "--proxy socks5://HOST:PORT goes through a proxy",
        **habits.PROXY_HABITS,
    },
    rules=[
        one_of("--json", "--format"),
        one_of("--payload", "--send"),
        *(one_of("--all-open", other) for other in ("--any", "--closed")),
        excluded("--settle", "--proxy", _TLS, "--starttls", by="--udp", why="a UDP port has no connection"),
        excluded("--settle", "--proxy", "--tls", "--starttls", by=_DATAGRAMS, why="over UDP there is no connection"),
        excluded("--send", "--banner", "--payload", by=_SERVICE, why=_ASKED),
        excluded("--expect", by=_PLAIN_SERVICE, why=_ASKED),
        excluded("--closed", by=_SERVICE, why="a URL is to be ready"),
        needs("-H", "--status", on=_HTTP),
        excluded("--starttls", by=_UNIX, why="a unix socket is checked without TLS"),
        needs("--payload", on="--udp", why="--send TEXT is for TCP"),
        excluded(
            *("--banner", "--settle", _TCP_SEND, "--expect", _TLS, "--starttls"),
            by="--closed",
            why="a closed port says nothing",
        ),
        needs("--send", on=("--banner", "--expect", "--udp"), why="nobody would read the answer: --expect or --banner"),
        needs(
            "--interval",
            on=Case("--wait", lambda values: values["wait"]),  # with 0 there is one round, too
            why="there is one round without --wait",
        ),
        needs("--expires", on=options.SECURED_LATER, why=options.BARE_LATER),
        one_of("--expires", "--insecure"),
        needs("--show-certs", on=options.SECURED_LATER, why=options.BARE_LATER),
        *(excluded("--show-certs", by=f"--format {name}", why=f"{name} has no certificates") for name in _REPORTS),
        one_of("--quiet", "--show-certs"),
        excluded("--all", by=("--json", "--format json"), why="json has every port anyway"),
        *(excluded("--all", by=f"--format {name}", why=f"{name} has every port anyway") for name in _REPORTS),
        excluded("--color", by=("--json", "--format json"), why="json has no colours"),
        *(excluded("--color", by=f"--format {name}", why=f"{name} has no colours") for name in _REPORTS),
        one_of("--quiet", "--color"),
        excluded("--progress", by=("--json", "--format json"), why="with json nothing else is shown"),
        *(excluded("--progress", by=f"--format {name}", why=f"with {name} nothing else is shown") for name in _REPORTS),
        one_of("--quiet", "--progress"),
    ],
    examples=[
        (
            "netkit portcheck redis://cache http://app/health --wait 60s -- make test",
            "run a command once both are ready",
        ),
        (
            "netkit portcheck db:22,80,8000-8010 tls:db:443 --expires 30d",
            "check ports, and how long a certificate lasts",
        ),
        ("netkit portcheck cache:6379 --send 'PING\\r\\n' --expect PONG", "check what a server answers"),
    ],
)
@click.argument("targets", nargs=-1, callback=_targets)
@options.family_options
@CHECKING.option("--udp", help="Check UDP ports; only an answer shows that one is open.")
@CHECKING.option("--payload", type=HEX, default=b"", help="Send these bytes to each UDP port (default: none).")
@CHECKING.option("--any", "any_port", help="Succeed if one port of all targets is as expected.")
@CHECKING.option("--all-open", help="Expect every port of a list, a range or a network to be open, not just one.")
@CHECKING.option("--closed", help="Expect every port to be closed.")
@CHECKING.option("--banner", help="Show the first data that a port sends.")
@CHECKING.option("--settle", type=DURATION_OR_ZERO, help="Expect the connection to stay open for D.")
@CHECKING.option("--send", "text", type=TEXT, help="Send TEXT to each port.")
@CHECKING.option(
    "--expect", type=REGEX, help="Exit with 8 if the answer, or a URL's body, does not match, with 28 if none comes."
)
@CHECKING.option(
    "-H",
    "--header",
    "fields",
    type=FIELD,
    multiple=True,
    help="Send this header field to a URL; 'NAME:' removes one of netkit's own; repeatable.",
)
@CHECKING.option(
    "--status",
    "statuses",
    type=STATUSES,
    default=(),
    help="Expect one of these statuses from a URL (default: 2xx, 3xx).",
)
@proxy_options
@options.client_tls_options
@layer_options("starttls")
@TLS.option("--expires", type=DURATION, help="Exit with 60 if a certificate expires within D.")
@TLS.option("--show-certs", "chains", help="Print the server's certificates, in PEM, after each port's line.")
@CHECKING.option("--concurrency", type=COUNT, help="Check at most N ports at a time (default: as many as possible).")
@CHECKING.option("--max-rate", type=COUNT, help="Start at most N attempts per second, evenly spaced.")
@options.connect_timeout_option("each look-up, connection and answer", 3.0)
@TIME.option("--wait", type=DURATION_OR_ZERO, help="Check again until all is as expected; exit with 28 after D.")
@TIME.option("--interval", type=DURATION_OR_ZERO, help="Time between two rounds of --wait, at least 10ms.")
@options.timeout_option
@OUTPUT.option("--all", "each_port", help="Print a line for each port, without summaries.")
@OUTPUT.option(
    "--format",
    "form",
    type=choice(*_FORMATS, name="FORMAT"),
    help=f"Print {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]} (default: text).",
)
@options.view_options
@options.verbosity_options
@client_module.client_options
@gathered("check", "netkit.services.portcheck.check.Check")
def portcheck(
    client: client_module.ClientOptions,
    targets: "list[Target]",
    command: tuple[str, ...],
    check: "Check",
    udp: bool,
    any_port: bool,
    all_open: bool,
    text: bytes | None,
    concurrency: int | None,
    max_rate: int | None,
    interval: float | None,
    each_port: bool,
    chains: bool,
    form: str | None,
    view: View,
) -> int:
    """Show whether ports are open, closed, filtered or unreachable, or wait until they are open.

    TARGET is HOST:PORTS or HOST PORTS. PORTS may have lists, ranges and service names: 22,80,8000-8010,https. HOST may
    be a network of at most 65536 addresses, such as 10.0.0.0/24. TARGET may also be unix:PATH or a URL. The TARGET -
    reads targets from standard input, one or more per line, with comments after #; netkit reads all of them first.

    netkit prints a line for each port as soon as its state is known: host, port, address, state, milliseconds and
    details, separated by tabs. If more than 25 ports of a target have the same state, other than open, they are only
    counted. The states are open; closed: the host refused; filtered: no answer in time; unreachable: the network said
    so; unknown: the name has no address; and over UDP open|filtered: no answer, which may mean either. netkit tries all
    addresses of a host. A port is open if it is open at one of them, and closed only if all of them say so. netkit
    sends nothing but the data of --send, and closes connections without a reset.

    A target with one port is as expected if that port is open. A list, a range or a network is as expected if one of
    its ports is open: netkit portcheck db:22,80 cache:6379 succeeds if cache:6379 and one of the ports of db are open.
    A line on stderr then says how many ports are in which state. With --all-open every port must be open, and with
    --closed every port must be closed. With --any one open port of all targets is enough, and netkit exits as soon as
    it is found.

    A URL checks that the service is ready, which an open port does not prove. netkit sends what a client of the
    protocol sends first, without logging in or changing anything. The line then says "ready", or "not ready" and why,
    with exit code 8. http://HOST/PATH and https:// are ready if the status is 2xx or 3xx, and --expect matches the
    body. PROBE://HOST uses the standard port of the protocol, unless the URL has another. PROBE is postgres,
    postgresql, mysql, mariadb, mongodb, redis, rediss, memcached, amqp, amqps, kafka, nats, mqtt, mqtts, smtp, smtps,
    lmtp, imap, imaps, pop3, pop3s, ftp, ftps, ssh, ldap, ldaps, dns, ntp, grpc or grpcs. grpc://HOST/SERVICE asks for
    one service. Of any other longer URL, such as one with user, password and database, netkit uses and shows only host
    and port; it ignores a driver, as in postgresql+psycopg2://. Some servers log the check: MySQL, and PostgreSQL if it
    wants no password, log that a user netkit was refused, and RabbitMQ that a client left.

    With --wait netkit checks again what is not as expected; of several ports of a target, until one of them is. On a
    terminal a board shows each target with its state, the reason and the number of tries. Elsewhere netkit prints a
    line on stderr for each change. The last line says how many targets are ready, and which are not. --wait and
    --format junit are limited to 262144 ports.

    With tls: before a target, or --tls for all of them, a port is as expected if a TLS handshake succeeds within the
    time of -w and the certificate is acceptable. --send and --expect then use the TLS connection. The line shows the
    TLS version and the names, issuer and remaining days of the certificate, acceptable or not. With --starttls the
    handshake follows the plain dialogue of that protocol; a server that does not offer TLS or refuses it is a wrong
    answer.

    With --proxy netkit goes through a SOCKS or HTTP proxy, or several (see "netkit help proxies"). The state is what
    the proxy says about the port. It is unknown if the proxy itself failed, or says nothing about a port that it cannot
    reach, as ssh -D does.

    Exit code 0 means that every target is as expected. Otherwise it is 7 if a port answered but not as expected, else 5
    if the name of a proxy has no address, 6 if another name has none, 97 if a proxy refused or failed, 60 if a
    certificate is not acceptable or expires too soon, 35 if a handshake failed, 8 for a wrong answer, 28 for no answer.
    When --wait is over it is 28. COMMAND replaces netkit once everything is as expected.
    """
    from netkit.core.errors import Invalid
    from netkit.core.udp import LARGEST
    from netkit.output.portcheck.report import make_writer, write
    from netkit.services.portcheck.check import Summary
    from netkit.services.portcheck.scan import Checker, limits
    from netkit.services.portcheck.targets import STDIN, with_stdin

    form = "json" if client.verbosity.json else form or "text"
    client.verbosity = client.verbosity._replace(json=form == "json")
    last = client.proxies.chain[-1] if client.proxies.chain else None
    check = check._replace(
        timeout=client.addresses.connect_timeout,
        payload=check.payload or text or b"",
        greeted=bool(client.between.secures),
        family=last.family if last else client.addresses.family(),
    )
    if udp and len(check.payload) > LARGEST:
        raise Invalid(f"{len(check.payload)} bytes are more than {LARGEST}, the most a datagram holds")
    given = click.get_current_context().params

    def approve(found: "list[Target]") -> None:
        for target in found:
            client.check(target.first)

    approve([target for target in targets if target != STDIN])

    async def work() -> None:
        found = targets
        if STDIN in targets:
            found = await with_stdin(targets, lambda words: _take(given, words))
            check_again(targets=found)
            approve(found)
        if client.between.secures:
            found = [target._replace(tls=True) for target in found]
        secured = dict.fromkeys(target.host or "localhost" for target in found if target.tls)
        if secured:
            client.tls.warn(", ".join(secured), client.verbosity)
            client.securing("", client.observe)  # files that cannot be used are known before anybody is asked
        summary = Summary(check, found, any_port=any_port, all_ports=all_open)
        keeping = "--wait" if client.wait else "--format junit" if form == "junit" else ""
        if keeping and summary.total > _MAX_KEPT:
            raise Invalid(f"{keeping} is for at most {_MAX_KEPT} ports, not {summary.total}")
        attempts, lookups = limits(found)
        checker = Checker(
            check,
            concurrency or attempts,
            lookups,
            client.observe,
            client.securing if secured else None,
            client.dialling([]) if last else None,
            resolve=not (last and last.resolves),
            rate=max_rate,
        )
        writer = make_writer(form, summary, view, client.verbosity, each_port=each_port, chains=chains)
        await write(checker, summary, writer, client.verbosity, client.wait, interval)

    return client.run(work()) or (run.become(command, client.verbosity) if command else 0)
