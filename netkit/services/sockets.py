"""Listing the sockets of this machine, with their users and processes."""

import os
import pwd
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import NamedTuple

from netkit.core.errors import Exit, Invalid, doing
from netkit.core.sockdiag import ESTABLISHED, LISTEN, STATES, UNCONNECTED, Socket, sockets

PROTOCOLS = ("tcp", "udp", "unix")
# Names of states in ss, netstat and RFC 9293; case, "-" and "_" are ignored.
_ALIASES = {
    "estab": ESTABLISHED,
    "connected": ESTABLISHED,
    "listening": LISTEN,
    "synrecv": "syn-received",
    "synrcvd": "syn-received",
    "unconn": UNCONNECTED,
    "close": "closed",
}


class Process(NamedTuple):
    """A process that has a socket open. Its ``name`` may have any characters."""

    pid: int
    name: str


class Owned(NamedTuple):
    """A socket, its user's name, and the processes that have it open, as far as we may see them, by pid."""

    socket: Socket
    user: str | None
    processes: tuple[Process, ...]


class Wanted(NamedTuple):
    """A filter: sockets for which all of this holds. ``port`` may be that of either end; ``family`` is ipv4 or ipv6."""

    protocols: Sequence[str] = PROTOCOLS
    family: str | None = None
    listening: bool = False
    state: str | None = None
    port: int | None = None
    pid: int | None = None

    def asked(self) -> list[str]:
        """The protocols that can have such sockets."""
        internet = self.port is not None or self.family is not None
        return [
            protocol
            for protocol in self.protocols
            if self.state in (None, *STATES[protocol]) and not (internet and protocol == "unix")
        ]

    def takes(self, one: Socket) -> bool:
        """Whether a socket matches, apart from ``pid``."""
        return (
            self.family in (None, one.family)
            and (not self.listening or is_listening(one))
            and self.state in (None, one.state)
            and self.port in (None, one.local_port, one.peer_port)
        )


def is_listening(one: Socket) -> bool:
    """Whether a socket is a listener, or a datagram socket that is bound and not connected."""
    receives = one.state == UNCONNECTED and one.kind in (None, "dgram") and one.local is not None
    return one.state == LISTEN or receives


def any_of(wanted: Wanted) -> bool:
    """Whether there is such a socket. Raises Failure READ."""
    if wanted.pid is not None:
        return bool(listing(wanted))
    return any(map(wanted.takes, sockets(wanted.asked())))


def listing(wanted: Wanted) -> list[Owned]:
    """The matching sockets by protocol, listeners first, then by port and address. Raises Failure READ."""
    if wanted.pid is not None:
        _check_process(wanted.pid)
    found = [one for one in sockets(wanted.asked()) if wanted.takes(one)]
    processes = _processes({one.inode for one in found if one.inode})
    names: dict[int, str] = {}
    owned = []
    for one in sorted(found, key=_order):
        holders = processes.get(one.inode, ())
        if wanted.pid is not None and all(process.pid != wanted.pid for process in holders):
            continue
        if one.uid is not None and one.uid not in names:
            names[one.uid] = _user_name(one.uid)
        owned.append(Owned(one, None if one.uid is None else names[one.uid], tuple(holders)))
    return owned


def _order(one: Socket) -> tuple[object, ...]:
    ends = (one.local_port or 0, one.local or "", one.peer_port or 0, one.peer or "")
    return (PROTOCOLS.index(one.protocol), not is_listening(one), *ends, one.inode)


def parse_state(text: str, protocols: Iterable[str]) -> str:
    """Parse a state in any of its spellings. Raises Invalid if none of these protocols has it."""
    known = {_squeezed(name): name for names in STATES.values() for name in names} | _ALIASES
    word = _squeezed(text)
    name = known.get(word)
    possible = dict.fromkeys(name for protocol in protocols for name in STATES[protocol])
    if name is None:
        close = get_close_matches(word, known, 1)
        meant = f", did you mean {known[close[0]]!r}?" if close else f": {', '.join(possible)}"
        raise Invalid(f"--state: {text!r} is no state{meant}")
    if name not in possible:
        raise Invalid(f"--state {name} does not apply: {' and '.join(protocols)} sockets are {', '.join(possible)}")
    return name


def _squeezed(text: str) -> str:
    return text.lower().replace("-", "").replace("_", "")


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _processes(inodes: set[int]) -> dict[int, list[Process]]:
    """For each inode the processes that have the socket open, by pid, as far as we may see. Raises Failure READ."""
    found: dict[int, list[Process]] = {}
    if not inodes:
        return found
    links = {f"socket:[{inode}]": inode for inode in inodes}
    with doing(Exit.READ, "read /proc"):
        pids = sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())
    for pid in pids:
        process = None
        for inode in {links[link] for link in _open_files(pid) if link in links}:
            process = process or Process(pid, _process_name(pid))
            found.setdefault(inode, []).append(process)
    return found


def _check_process(pid: int) -> None:
    """Raise Failure READ if we may not see the open files of a process, as an empty list would then be wrong."""
    hint = "only root sees the sockets of other users' processes"
    with doing(Exit.READ, f"read the sockets of process {pid}", hint=hint):
        folder = f"/proc/{pid}/fd"
        try:
            for name in os.listdir(folder)[:1]:
                os.readlink(f"{folder}/{name}")  # root without CAP_SYS_PTRACE can list them, but not read the links
        except (FileNotFoundError, ProcessLookupError):
            pass


def _open_files(pid: int) -> Iterator[str]:
    with suppress(OSError):  # it has exited, or we have no permission
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):  # closed meanwhile
                yield os.readlink(f"/proc/{pid}/fd/{name}")


def _process_name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read().removesuffix(b"\n").decode("utf-8", "backslashreplace")
    except OSError:
        return ""
