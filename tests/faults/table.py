"""The names of the faults that netkit must cope with: of input, peers, systems and networks.

A test names its faults with the mark ``fault``: ``@pytest.mark.fault("giant line")``. Each fault has a test, or is in
``UNTESTED`` with the reason. ``python -m tests.faults`` lists them.
"""

import ast
import functools
import re
from pathlib import Path

_TESTS = Path(__file__).resolve().parent.parent

FAULTS: dict[str, tuple[str, ...]] = {
    "what is typed and given": (
        "port 0 to dial", "port out of range", "negative port", "name of a service for a port",
        "digits beyond ASCII", "other spellings of numbers", "range backwards", "malformed range",
        "odd duration", "empty host", "host too long", "control bytes in a host", "host beyond ASCII",
        "IPv4 as of old", "almost IPv4", "brackets", "zones", "IPv4 within IPv6", "wrong family",
        "mistakes of usage", "every byte there is", "giant line", "value that does not fit",
        "format that takes too much", "record too short or too long", "words that look special",
    ),
    "peers": (
        "reset at once", "data, then a reset", "peer stops reading", "close with our input unread",
        "full duplex", "both write before they read", "late answer", "peer ends while input is open",
        "peer never reads", "silent peer", "one byte a second", "one byte a packet", "urgent data",
        "clients that come and reset", "many clients at once", "idle client", "TLS to who speaks none",
        "handshake without an answer", "client that stalls in its handshake", "HTTP body cut or malformed",
        "HTTP without bound", "odd redirects", "empty datagram", "largest datagram", "datagram too large",
        "several senders of datagrams", "closed port for datagrams", "filtered port for datagrams",
    ),
    "the system": (
        "no descriptor to accept with", "few descriptors", "client that never reads", "little memory",
        "full device", "disk that fills up", "reader of stdout leaves", "peer's broken pipe", "closed stdout",
        "unreadable stdin", "empty stdin", "idle CPU", "flags of shared descriptors", "short reads and writes",
        "closed or full stderr", "limit of file size", "no process to spare", "port taken or lingering",
    ),
    "signals": (
        "Ctrl-C", "SIGTERM to a client", "SIGTERM to a server", "SIGHUP",
        "signals ignored or held back at the start", "stopped, resized", "interrupted calls",
        "terminal hangs up", "programs that ended", "socket file left behind", "descriptors of programs",
    ),
    "networks": (
        "connection refused", "no answer to connecting", "DNS says no", "dead first address",
        "routes that lead nowhere", "silence in the middle", "system gives up", "connection destroyed",
        "errors of send", "loss", "late, doubled, reordered, corrupted", "slow link", "small packets",
        "no IPv6", "no network", "address that cannot be bound", "port that the system chose", "both families",
        "addresses of many hosts", "full backlog", "interface goes down", "sockets that come and go",
    ),
    "strangers": (
        "escapes for a terminal", "foreign text in messages", "forged lines of a log", "bad certificate",
        "payload before verification", "--insecure", "name of a TLS server", "default of binding",
        "two echoes of datagrams", "datagram from ourselves", "socket path that is something else",
        "length of a socket path", "mode of a socket file", "output file that is a link", "words for programs",
        "interpreter in another mode", "secrets in messages", "injection into a request", "compression bomb",
        "spellings past an access list", "any bytes for parsers", "old TLS", "payload before a handshake",
    ),
}  # fmt: skip

UNTESTED: dict[str, str] = {}


_MARK_OR_TEST = re.compile(r"mark\.fault\(([^()]*)\)|^(?:async )?def (test_\w+)", re.MULTILINE)


@functools.cache
def covered() -> dict[str, list[str]]:
    """Return, for each fault that is marked, the tests with that mark, also in their parameters, as FILE::NAME."""
    found: dict[str, list[str]] = {}
    for path in sorted(_TESTS.rglob("test_*.py")):
        names: list[str] = []
        for words, test in _MARK_OR_TEST.findall(path.read_text(encoding="utf-8")):
            names += ast.literal_eval(f"[{words}]")
            if test:
                for name in names:
                    found.setdefault(name, []).append(f"{path.relative_to(_TESTS)}::{test}")
                names = []
    return found
