"""What datagrams mean: how input is cut into them, how they are shown, and which of them are answered."""

import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from re import Pattern
from typing import NamedTuple

from netkit.core.address import Endpoint
from netkit.core.bind import Receiver, is_ours
from netkit.core.datagram import LARGEST, MARK, Burst, Data, Datagram, Peer, carried, cut, is_multicast
from netkit.core.errors import Exit, Failure, Invalid
from netkit.core.events import Dropped, Ignored, Observer, span
from netkit.core.kernel import Event, Expired, Group, deadline, now, sleep
from netkit.core.relay import Change
from netkit.services.terminal import Terminal

Run = tuple[Data, int]
"""Datagrams that follow each other: bytes, and the size of each datagram; the last one may be shorter."""

Framing = Callable[[bytes], Iterable[Run]]
"""Input as it comes, and b"" at its end, to the datagrams that are complete. It may raise Failure, after these."""

Put = Callable[[Data, int], Awaitable[None]]
"""Sends a Run."""

Speech = Callable[[Terminal, Put], Awaitable[None]]
"""Sends all that there is to say."""

Show = Callable[[Datagram, Burst], bytes]
"""How what was received is written."""

Reply = Callable[[Datagram, Burst], Awaitable[None]]
"""Sends the answers to what was received."""

_TOO_LONG = f"it is longer than {LARGEST} bytes, the most a datagram holds"
_LONGEST_HEX = 4 * LARGEST  # digits, and spaces between them
_STEP = 0.001  # s: what is sent at once, at a given rate
_CREDIT = 0.002  # s that a pause which took too long is made up for
_ANSWERING = (7, 13, 17, 19, 37)  # echo, daytime, qotd, chargen, time: RFC 862 to 868
_DSCP = 0xFC  # the bits of the traffic class without ECN: RFC 2474


# -- input to datagrams


def whole() -> Framing:
    """Take all of the input for one datagram."""
    held = bytearray()

    def frame(data: bytes) -> Iterator[Run]:
        held.extend(data)
        if len(held) > LARGEST:
            hint = "--lines or --size N cuts it"
            raise Failure(Exit.USAGE, "send stdin as one datagram", _TOO_LONG, hint=hint)
        if not data:
            yield bytes(held), LARGEST

    return frame


def in_pieces(size: int) -> Framing:
    """Cut the input every ``size`` bytes; what is left at the end is the last datagram."""
    held = b""

    def frame(data: bytes) -> Iterator[Run]:
        nonlocal held
        start = min(size - len(held), len(data)) if held else 0
        begun, held = held + data[:start], b""
        if data and 0 < len(begun) < size:
            held = begun
            return
        if begun:
            yield begun, size
        end = start + (len(data) - start) // size * size
        held = data[end:]
        if end > start:
            yield memoryview(data)[start:end], size  # bulk is not copied

    return frame


def in_lines() -> Framing:
    """Make each line a datagram, without its newline."""

    def read(line: bytes, number: int) -> bytes:
        if len(line) > LARGEST:
            raise _too_long(number)
        return line

    return _lines(read, LARGEST)


def in_hex() -> Framing:
    """Make each line of hex digits a datagram; an empty line is an empty one."""

    def read(line: bytes, number: int) -> bytes:
        try:
            data = bytes.fromhex(line.decode("ascii"))
        except ValueError:
            shown = ascii(line[:40].decode("latin-1"))
            raise Failure(Exit.READ, f"read line {number} of stdin", f"{shown} is not pairs of hex digits") from None
        if len(data) > LARGEST:
            raise _too_long(number)
        return data

    return _lines(read, _LONGEST_HEX)


def _lines(read: Callable[[bytes, int], bytes], longest: int) -> Framing:
    held, number = b"", 0

    def lines(data: bytes) -> Iterator[bytes]:
        nonlocal held, number
        *complete, held = (held + data).split(b"\n")
        if held and not data:
            complete, held = [held], b""
        for line in complete:
            number += 1
            yield read(line, number)
        if len(held) > longest:
            raise _too_long(number + 1)

    return lambda data: runs(lines(data))


def _too_long(number: int) -> Failure:
    return Failure(Exit.TOO_BIG, f"send line {number} of stdin", _TOO_LONG)


def runs(datagrams: Iterable[bytes]) -> Iterator[Run]:
    """Join neighbours of one size; what came before a Failure passes before it is raised."""
    held: list[bytes] = []
    try:
        for data in datagrams:
            if held and (len(data) != len(held[0]) or not data):
                yield _joined(held)
                held = []
            held.append(data)
    except Failure:
        if held:
            yield _joined(held)
        raise
    if held:
        yield _joined(held)


def _joined(datagrams: list[bytes]) -> Run:
    return b"".join(datagrams), len(datagrams[0]) or 1


def framing(lines: bool, size: int | None, by_hex: bool) -> Framing | None:
    """Return how input is cut as it comes, None if it is not."""
    if lines:
        return in_lines()
    if by_hex:
        return in_hex()
    return None if size is None else in_pieces(size)


def check_texts(texts: Iterable[bytes]) -> None:
    """Raise Invalid if one is too long."""
    for number, text in enumerate(texts, 1):
        if len(text) > LARGEST:
            raise Invalid(f"TEXT {number} has {len(text)} bytes: {LARGEST} are the most a datagram holds")


# -- sending


def putting(sock: Datagram, rate: int | None) -> Put:
    """Return what sends to the target of ``sock``, no faster than ``rate`` bytes per second."""
    due = now()

    async def put(data: Data, size: int) -> None:
        await sock.send_cut(data, size)

    async def put_slowly(data: Data, size: int) -> None:
        nonlocal due
        step = max(int((rate or 0) * _STEP) // size, 1) * size
        for piece in cut(memoryview(data), step):
            due = max(due, now() - _CREDIT)
            if due > now():
                await sleep(due - now())
            await sock.send_cut(piece, size)
            due += len(piece) / (rate or 1)

    return put if rate is None else put_slowly


def as_it_comes(framing: Framing) -> Speech:
    """Return what sends stdin, cut by ``framing``."""

    async def speak(terminal: Terminal, put: Put) -> None:
        data = b"-"
        while data:
            data = await terminal.recv()
            for run in framing(data):
                await put(*run)

    return speak


def all_at_once(texts: Sequence[bytes], times: int, interval: float) -> Speech:
    """Return what sends the texts, or where there are none all of stdin, so many times, ``interval`` seconds apart."""

    async def speak(terminal: Terminal, put: Put) -> None:
        rounds = list(runs(texts)) if texts else await _read_whole(terminal)
        for number in range(times):
            await sleep(interval if number else 0)
            for run in rounds:
                await put(*run)

    return speak


async def _read_whole(terminal: Terminal) -> list[Run]:
    frame = whole()
    while data := await terminal.recv():
        list(frame(data))
    return list(frame(b""))


class Replies(NamedTuple):
    """Which answers are waited for: how many (None: any), how long silence may last in seconds, how they are shown."""

    wanted: int | None
    patience: float
    show: Show
    change: Change | None = None


async def exchange(
    opening: Awaitable[Datagram], speak: Speech, replies: Replies | None, *, rate: int | None, observe: Observer
) -> None:
    """Send what ``speak`` sends, at most ``rate`` bytes per second, and show the replies that are wanted as they come.

    Without ``replies`` this ends with what was sent; otherwise when all have come, or once nothing was sent or received
    for so long. Raises Failure: TIMEOUT if some are missing, CONNECT for an error that came back.
    """
    sock = await opening
    terminal = Terminal()
    try:
        heard = await _converse(sock, terminal, partial(speak, terminal, putting(sock, rate)), replies, observe)
    finally:
        terminal.close()
        sock.close()
    if replies is not None and heard < (replies.wanted or 0):
        silence = span(replies.patience)
        reason = f"{heard} of {replies.wanted} replies, then none for {silence}" if heard else f"no reply for {silence}"
        raise Failure(Exit.TIMEOUT, f"hear from {sock.name}", reason, detail="--wait")


async def _converse(
    sock: Datagram,
    terminal: Terminal,
    speak: Callable[[], Awaitable[None]],
    replies: Replies | None,
    observe: Observer,
) -> int:
    """Return how many replies came."""
    begun = now()
    heard = 0
    spoken_at: float | None = None
    waiting: Group | None = None

    async def say() -> None:
        nonlocal spoken_at
        await speak()
        spoken_at = now()
        if waiting is not None:
            waiting.cancel()

    try:
        async with Group() as group:
            if replies is not None:
                group.start(terminal.reader_left())
            group.start(say())
            moved_at = begun
            while spoken_at is None or (replies is not None and heard != replies.wanted):
                due = None
                if spoken_at is not None and replies is not None:
                    due = max(spoken_at, moved_at) + replies.patience
                try:
                    async with Group() as waiting:
                        with deadline(due):
                            await sock.ready()
                except Expired:
                    break
                for burst in sock.take():
                    if replies is not None and heard != replies.wanted:
                        if replies.wanted is not None:
                            burst = burst.first(replies.wanted - heard)
                        heard += burst.number
                        await terminal.send(_changed(replies.change, replies.show(sock, burst)))
                        moved_at = now()
            group.cancel()
    finally:
        if sock.dropped():
            observe(Dropped(sock.dropped(), sock.joined))
        observe(carried([sock], now() - begun))
    return heard


def _changed(change: Change | None, data: bytes) -> bytes:
    return change(data) + change(b"") if change is not None else data


# -- showing


def shown(output: str, command: str) -> Show:
    """Return how datagrams are shown: not at all, as raw bytes, lines, hex or json, as events of ``command``."""
    shows: dict[str, Show] = {"none": not_shown, "raw": shown_raw, "lines": shown_as_lines, "hex": shown_in_hex}
    return shows[output] if output in shows else shown_in_json(command)


def not_shown(sock: Datagram, burst: Burst) -> bytes:
    """Return nothing."""
    return b""


def shown_raw(sock: Datagram, burst: Burst) -> bytes:
    """Return the bytes alone."""
    return burst.data


def shown_as_lines(sock: Datagram, burst: Burst) -> bytes:
    """Return each datagram as a line, or as the lines that it is."""
    return b"".join(data if data.endswith(b"\n") else data + b"\n" for data in cut(burst.data, burst.size))


def shown_in_hex(sock: Datagram, burst: Burst) -> bytes:
    """Return each datagram as a line of hex digits."""
    return b"".join(data.hex().encode() + b"\n" for data in cut(burst.data, burst.size))


def shown_in_json(command: str) -> Show:
    """Return each datagram as an event of ``command``, with where it came from and where it went to."""
    from netkit.core.record import octets, record

    def show(sock: Datagram, burst: Burst) -> bytes:
        ends = {
            "peer_address": burst.peer.endpoint.host,
            "peer_port": burst.peer.endpoint.port,
            "local_address": _asked(sock, burst.peer),
            "local_port": sock.local.port,
            "protocol": "udp",
        }
        lines = [
            record("datagram", command, **ends, bytes_received=len(data), **octets(data))
            for data in cut(burst.data, burst.size)
        ]
        return ("\n".join(lines) + "\n").encode()

    return show


def _asked(sock: Datagram, peer: Peer) -> str | None:
    if not peer.local:
        return sock.local.host
    return socket.inet_ntop(socket.AF_INET if len(peer.local) == 4 else socket.AF_INET6, peer.local)


# -- receiving


def in_turn(*receivers: Receiver) -> Receiver:
    """Return all of these as one."""

    async def receive(sock: Datagram, bursts: list[Burst]) -> None:
        for each in receivers:
            await each(sock, bursts)

    return receive


def showing(show: Show, change: Change | None = None) -> Receiver:
    """Write what comes to stdout, through ``change``."""
    terminal: Terminal | None = None

    async def receive(sock: Datagram, bursts: list[Burst]) -> None:
        nonlocal terminal
        terminal = terminal or Terminal(reads=False)
        await terminal.send(_changed(change, b"".join([show(sock, burst) for burst in bursts])))

    return receive


async def reader_left() -> None:
    """Raise Failure once nobody reads our stdout."""
    await Terminal(reads=False).reader_left()


def until(pattern: Pattern[bytes], stop: Event) -> Receiver:
    """Set ``stop`` once a datagram matches."""

    async def receive(sock: Datagram, bursts: list[Burst]) -> None:
        if any(pattern.search(data) for burst in bursts for data in cut(burst.data, burst.size)):
            stop.set()

    return receive


def answering(reply: Reply, observe: Observer) -> Receiver:
    """Answer what comes, marked as an answer; never what may be one itself, or comes from who would answer to it.

    Two servers of this kind cannot be made to talk to each other by a datagram with a forged source.
    """
    own: dict[Datagram, tuple[str, int]] = {}

    async def receive(sock: Datagram, bursts: list[Burst]) -> None:
        if sock not in own:
            sock.mark()
            own[sock] = sock.local.host or "", sock.local.port
        for burst in bursts:
            reason = refusal(burst, *own[sock])
            if not reason:
                try:
                    await reply(sock, burst)
                except Failure as failure:
                    reason = failure.reason
            if reason:
                observe(Ignored(burst.peer.endpoint, reason))

    return receive


def refusal(burst: Burst, own_host: str, own_port: int) -> str:
    """Return why a datagram to a server at ``own_host`` gets no answer, "" if it gets one."""
    host, port = burst.peer.address[:2]
    if burst.traffic_class & _DSCP == MARK:
        return "it is an answer itself"
    if port in _ANSWERING:
        return f"port {port} would answer back"
    if port == 0:
        return "port 0 takes no answer"
    if is_multicast(host) or host == "255.255.255.255":
        return "its source is no single host"
    if port == own_port and (host == own_host or (own_host in ("0.0.0.0", "::") and is_ours(host))):
        return "it claims to come from here"
    return ""


def replying(text: bytes | None, name: str | None) -> Reply | None:
    """Return the reply that was asked for: a text, or ``echo`` or ``upper``."""
    if text is not None:
        return fixed(text)
    return {"echo": changed(bytes), "upper": changed(bytes.upper)}[name] if name else None


def changed(change: Callable[[bytes], bytes]) -> Reply:
    """Send each datagram back through ``change``, which may not make it longer or shorter."""

    async def reply(sock: Datagram, burst: Burst) -> None:
        await sock.send_cut(change(burst.data), burst.size, burst.peer)

    return reply


def fixed(text: bytes) -> Reply:
    """Answer each datagram with ``text``."""

    async def reply(sock: Datagram, burst: Burst) -> None:
        for _ in range(burst.number):
            await sock.send(text, burst.peer)

    return reply


def check_groups(endpoint: Endpoint, groups: Sequence[str], family: int) -> None:
    """Raise Invalid if a server would never hear what it was told to."""
    if endpoint.host and is_multicast(endpoint.host):
        raise Invalid(f"{endpoint.host} is a multicast group: write :{endpoint.port} --join {endpoint.host}")
    for group in groups:
        if family not in (socket.AF_UNSPEC, socket.AF_INET6 if ":" in group else socket.AF_INET):
            raise Invalid(f"--join {group} does not apply: it is of the other family")
