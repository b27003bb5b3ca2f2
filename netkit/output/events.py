"""The table of events: their JSON names and fields, and their sentences; and the observer that writes them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from netkit.core import events
from netkit.core.address import Endpoint
from netkit.core.events import CoreEvent, Observer
from netkit.core.units import duration, milliseconds, size
from netkit.output import console
from netkit.output.console import STDERR, Verbosity
from netkit.output.jsonl import ends_of


class Row(NamedTuple):
    """How a kind of event is reported.

    ``name`` and ``fields`` are those of its JSON object. ``peer`` and ``local`` become address, port, family and
    protocol; ``time_ms`` and ``duration_ms`` are the event's ``seconds``; ``certificates`` become fields of the first.
    ``written`` is the number of -v from which the object is written, and ``spoken`` that for the ``sentence``; None
    makes the sentence a hint. On a terminal, the line that ``drawn`` returns replaces the sentence.
    """

    name: str
    written: int
    spoken: int | None
    fields: str
    sentence: str | Callable[[Any], str]
    drawn: Callable[[Any], str] | None = None


def _listening(event: events.Listening) -> str:
    return f"listening on {event.local}" + (f"/{event.protocol}" if event.beside else "")


def _replied(event: events.Replied) -> str:
    if event.server is None:
        return f"the system's resolver answered for {event.host} in {duration(event.seconds)}"
    return f"{event.server} answered for {event.host} {event.type} over {event.protocol} in {duration(event.seconds)}"


def _connected(event: events.Connected) -> str:
    ours = f" from {event.local}" if event.local.path is None else ""
    return f"connected to {event.peer}{ours} after {duration(event.seconds)}"


def _secured(event: events.Secured) -> str:
    alpn = f", ALPN {event.alpn}" if event.alpn else ""
    shown = f", {_certificate(event)}" if event.certificates else ""
    return f"secured by {event.protocol} with {event.cipher}{alpn}{shown}"


def _certificate(event: events.Secured | events.Distrusted) -> str:
    from netkit.core.x509 import read
    from netkit.output import certificate

    found = read(event.certificates[0])
    return f"certificate of {certificate.sentence(found)}, {found.fingerprint}"


def _distrusted(event: events.Distrusted) -> str:
    return f"not acceptable: {_certificate(event) if event.certificates else 'no certificate'}"


def _self_signed(event: events.SelfSigned) -> str:
    from netkit.core.x509 import read

    found = read(event.certificates[0])
    return f"self-signed certificate of {found.label}; clients can take it by --fingerprint {found.fingerprint}"


def _dropped(event: events.Dropped) -> str:
    many = f"{'at least ' if event.at_least else ''}{event.datagrams_dropped_min}"
    return f"the kernel dropped {many} datagrams: they came faster than they were read"


def _carried(event: events.Carried) -> str:
    received = f"{_many(event.datagrams_received)} ({size(event.bytes_received)}) received"
    sent = f"{_many(event.datagrams_sent)} ({size(event.bytes_sent)}) sent"
    return f"closed after {duration(event.seconds)}: {received}, {sent}"


def _released(event: events.Released) -> str:
    moved = f"{_many(event.datagrams_received)} received, {event.datagrams_sent} sent"
    end = f", {event.reason}" if event.reason else ""
    return f"{event.peer} released after {duration(event.seconds)}: {moved}{end}"


def _waiting(event: events.Waiting) -> str:
    many = "1 target" if event.targets == 1 else f"{event.targets} targets"
    return f"waiting for {many}, at most {duration(event.seconds)}"


def _changed(event: events.Changed) -> str:
    if event.ready:
        return f"{event.target} is {'ready' if event.state == 'open' else event.state} after {duration(event.seconds)}"
    return f"{event.target} is {event.state}{event.reason and ': '}{event.reason}"


def _many(number: int) -> str:
    return "1 datagram" if number == 1 else f"{number} datagrams"


def _answered(event: events.Answered) -> str:
    length = None if event.size_bytes is None else size(event.size_bytes)
    about = ", ".join(filter(None, (length, event.content_type)))
    return f"answered {f'{event.status} {event.reason}'.rstrip()}{about and ': '}{about}"


def _closed(event: events.Closed) -> str:
    moved = f"{size(event.bytes_received)} received, {size(event.bytes_sent)} sent"
    end = f", {event.reason}" if event.reason else ""
    return f"{event.name} closed after {duration(event.seconds)}: {moved}{end}"


def _timed(event: events.Timed) -> str:
    from netkit.output import timeline

    return timeline.listed(event)


def _drawn(event: events.Timed) -> str:
    from netkit.output import timeline

    return timeline.drawn(event, console.terminal_size(STDERR).columns)


_INPUT_LEFT = "the peer ended; input is still open and is left after {bytes_sent} bytes"
_END_SENT = (
    "nothing came for {seconds}, so the end of input was sent; --send-only (relay: --shutdown-after 0) sends it at once"
)
_TUNNELLED = "proxy {proxy} connected to {target} after {seconds}"
_PEER_LEFT = "the peer ended; input was idle for {seconds} and is left unread"
_NO_ANSWER = (
    "nothing came back; the server may want TLS (tls: before the address), "
    "or --no-shutdown if it drops clients which half-close"
)
_CARRIED = "duration_ms protocol datagrams_received bytes_received datagrams_sent bytes_sent"
_RELEASED = "peer duration_ms datagrams_received datagrams_sent reason"
_CLOSED = "peer duration_ms bytes_sent bytes_acknowledged bytes_received reason"
_TIMED = "target name_ms connect_ms tls_ms first_byte_ms body_ms"

# First the events that are always reported, in words or in JSON, then those from -v on, then those from -vv on.
TABLE: dict[type[CoreEvent], Row] = {
    events.Listening: Row("listening", 0, 0, "local", _listening),
    events.SelfSigned: Row("self_signed", 0, 0, "certificates", _self_signed),
    events.Paused: Row("paused", 0, 0, "reason", "cannot {action} for now: {cause}"),
    events.Cut: Row("cut", 0, 0, "peer reason", "connection from {peer} reset: {reason}"),
    events.ProgramLeft: Row(
        "program_left", 0, 0, "program pid reason", "cannot end {program}: {reason} (process {pid})"
    ),
    events.Dropped: Row("dropped", 0, 0, "datagrams_dropped_min", _dropped),
    events.InputLeft: Row("input_left", 0, 0, "bytes_sent", _INPUT_LEFT),
    events.Reconnecting: Row("reconnecting", 0, 0, "reason", "{reason}; connecting again"),
    events.EndSent: Row("end_sent", 0, 0, "duration_ms", _END_SENT),
    events.Unanswered: Row("unanswered", 0, None, "", _NO_ANSWER),
    events.WantsTls: Row("wants_tls", 0, None, "reason", "{reason}"),
    events.Waiting: Row("waiting", 0, 0, "targets duration_ms", _waiting),
    events.Changed: Row("changed", 0, 0, "target state ready reason tries time_ms", _changed),
    events.Checked: Row("checked", 0, 0, "ports states targets targets_ready duration_ms", "{text}"),
    events.Resolved: Row("resolved", 0, 1, "host addresses time_ms", "resolved {host} to {addresses} in {seconds}"),
    events.Replied: Row("replied", 2, 1, "host type server protocol time_ms", _replied),
    events.Connected: Row("connected", 0, 1, "target peer local time_ms", _connected),
    events.Tunnelled: Row("tunnelled", 0, 1, "proxy target time_ms", _TUNNELLED),
    events.Forwarded: Row("forwarded", 0, 1, "proxy target", "asking proxy {proxy} for {target}"),
    events.Secured: Row("secured", 0, 1, "protocol cipher alpn certificates", _secured),
    events.Distrusted: Row("distrusted", 0, 1, "certificates", _distrusted),
    events.Accepted: Row("accepted", 0, 1, "peer", "connection from {peer}"),
    events.Proxied: Row("proxied", 0, 1, "proxy peer", "connection from {proxy} is relayed for {peer}"),
    events.Requested: Row("requested", 0, 1, "peer target scheme", "{peer} asks for {target} by {scheme}"),
    events.Denied: Row("denied", 0, 1, "peer reason", "connection from {peer} denied: {reason}"),
    events.Opened: Row("opened", 0, 1, "target peer local", "sending to {peer} from {local}"),
    events.Ignored: Row("ignored", 0, 1, "peer reason", "datagram from {peer} ignored: {reason}"),
    events.Associated: Row("associated", 0, 1, "peer target", "relaying {peer} to {target} from {local}"),
    events.Released: Row("released", 0, 1, _RELEASED, _released),
    events.Answered: Row("answered", 0, 1, "target status reason size_bytes content_type", _answered),
    events.Redirected: Row("redirected", 0, 1, "target status location", "redirected by {status} to {location}"),
    events.Timed: Row("timed", 0, 1, _TIMED, _timed, _drawn),
    events.InputUnread: Row("input_left", 0, 1, "duration_ms", _PEER_LEFT),
    events.Carried: Row("closed", 0, 1, _CARRIED, _carried),
    events.Closed: Row("closed", 0, 1, _CLOSED, _closed),
    events.Trying: Row("trying", 2, 2, "address", "trying {address}"),
    events.Missed: Row(
        "missed", 2, 2, "address reason time_ms", "no connection to {address}: {reason}, after {seconds}"
    ),
    events.AskedAgain: Row(
        "asked_again", 2, 2, "host reason server protocol", "{reason}; asking {server} over {protocol}"
    ),
    events.Retrying: Row("retrying", 2, 2, "reason time_ms", "{reason}; again in {seconds}"),
}


def sentence(event: CoreEvent, verbose: int) -> str | None:
    """The event's sentence for ``verbose`` times -v; None if it is not reported then."""
    row = TABLE[type(event)]
    return _in_words(row, event) if row.spoken is not None and verbose >= row.spoken else None


def _in_words(row: Row, event: CoreEvent) -> str:
    if not isinstance(row.sentence, str):
        return row.sentence(event)
    words: dict[str, Callable[[Any], str]] = {"seconds": duration, "addresses": ", ".join}
    return row.sentence.format_map({name: words.get(name, str)(value) for name, value in event.values().items()})


def fields(event: Any, verbose: int) -> tuple[str, dict[str, Any]] | None:
    """The event's name and fields for JSON; None if it is not reported then."""
    row = TABLE[type(event)]
    if verbose < row.written:
        return None
    found: dict[str, Any] = {}
    for name in row.fields.split():
        if name in ("time_ms", "duration_ms"):
            found[name] = milliseconds(event.seconds)
        elif name.endswith("_ms"):
            seconds = getattr(event, name.removesuffix("_ms"))
            found[name] = None if seconds is None else milliseconds(seconds)
        elif name == "certificates":
            found |= _fields_of_first(event.certificates)
        elif name in ("peer", "local"):
            found |= ends_of(getattr(event, "protocol", "tcp"), **{name: getattr(event, name)})
        else:
            value = getattr(event, name)
            found[name] = value or None if name == "reason" else value
    return row.name, found


def _fields_of_first(certificates: Sequence[bytes]) -> dict[str, Any]:
    if not certificates:
        return {}
    from netkit.core.x509 import read
    from netkit.output import certificate

    return certificate.fields(read(certificates[0]))


def observer(verbosity: Verbosity, count: Callable[[Observer], Observer] | None = None) -> Observer:
    """The observer that writes events to stderr, wrapped by ``count`` if that is given."""

    def in_json(event: CoreEvent) -> None:
        if found := fields(event, verbosity.verbose):
            name, values = found
            console.emit(name, **values)

    cut: set[Endpoint] = set()  # peers whose reset was reported, with its reason

    def in_words(event: CoreEvent) -> None:
        if isinstance(event, events.Cut):
            cut.add(event.peer)
        elif isinstance(event, events.Closed) and event.peer in cut:
            cut.remove(event.peer)
            event = event._replace(reason="")
        row = TABLE[type(event)]
        if row.drawn and console.draws(STDERR) and verbosity.verbose >= (row.spoken or 0):
            console.draw(row.drawn(event))
        elif line := sentence(event, verbosity.verbose):
            console.say(f"{console.program}: {line}")
        elif row.spoken is None:
            console.hint(_in_words(row, event))

    observe = events.ignore if verbosity.quiet else in_json if verbosity.json else in_words
    return count(observe) if count else observe
