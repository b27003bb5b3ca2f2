"""Chapters of ``netkit help`` that belong to no single command."""

from collections.abc import Sequence
from typing import NamedTuple

from netkit.cli.pages import ADDRESSES, EXIT_STATUS, VALUES, Section, Terms


class Topic(NamedTuple):
    """A chapter, and what it is about."""

    summary: str
    sections: Sequence[Section]


_ENDING = (
    Section(
        "WHEN A CONVERSATION ENDS",
        [
            "This holds for connect, listen and relay, over TCP, TLS and unix sockets. An end is sent when it is true, "
            "a peer's end is believed when it means something, and nothing is guessed.",
        ],
    ),
    Section(
        "OUR INPUT ENDS",
        [
            "All of it is sent, then our end (a half-close; close_notify with TLS). Then netkit reads to the peer's "
            "end, however late the answer comes. Our end goes out:",
            Terms(
                [
                    ("TCP, unix", "at once"),
                    ("TLS server", "at once"),
                    (
                        "TLS client, --proxy",
                        "when the peer ends; or when an answer has begun and nothing has come for 2s; or when nothing "
                        "has come for 10s, which a message says. TLS servers and proxies drop what they still have to "
                        "send when they see our end.",
                    ),
                    ("--until, --max-bytes", "as a TLS client does, until they are met; then the conversation ends"),
                    (
                        "listen </dev/null",
                        "when the client ends, or after 10s of silence; with --keep only when it ends",
                    ),
                    ("--send-only", "at once; netkit exits when all is acknowledged"),
                    ("--shutdown-after D", "when nothing has come for D (0: at once)"),
                    ("--no-shutdown", "never; netkit exits when the peer ends"),
                ]
            ),
        ],
    ),
    Section(
        "THE PEER ENDS",
        [
            "stdout is closed at once, so that its reader goes on. What our input still holds is sent. Then:",
            Terms(
                [
                    ("input at its end", "exit"),
                    ("a terminal", "exit when nothing was typed for 500ms (--grace)"),
                    ("a pipe, silent peer", "a peer that never sent a byte only receives: go on to the end of input"),
                    (
                        "a pipe, peer spoke",
                        "exit when input is idle for 500ms (--grace); if any of it was sent, a message says that it "
                        "was left open",
                    ),
                    ("a program", "wait for its end, at most --grace"),
                    ("--hold, --send-only", "wait for the end of input in every case"),
                ]
            ),
            "A peer that has ended is probed while netkit stays (TCP keepalive: after 1s, every 5s, 12 lost). One that "
            "only half-closed answers. One that has left makes a reset within about a minute, or is seen at once on a "
            "unix socket; then netkit goes too.",
        ],
    ),
    Section(
        "EXIT CODES",
        [
            Terms(
                [
                    ("0", "the peer acknowledged every byte of ours, and all that came was written"),
                    ("8", "--until or --max-bytes was not met"),
                    ("18", "TLS ended without close_notify"),
                    ("55", "bytes of ours were not acknowledged; the message says how many"),
                    ("56", "the connection was reset, with all of ours acknowledged"),
                ]
            ),
            "After the peer's close_notify, with all of ours acknowledged, a reset means nothing. A connection that "
            "netkit cuts short (a signal, --timeout, a failure on the other side of a relay) is reset, so that a short "
            "answer never looks whole. Ctrl-C ends what was typed on a terminal without a reset.",
        ],
    ),
)

_PROXIES = (
    Section(
        "THROUGH PROXIES",
        [
            "--proxy URL has connect, fetch, portcheck and the target of relay go through a proxy. Given again, the "
            "first proxy is asked for the second, and so on; the last one is asked for the target.",
            Terms(
                [
                    ("socks5h, socks4a", "SOCKS; the proxy looks names up, and no name is looked up here (port 1080)"),
                    (
                        "socks5, socks4",
                        "SOCKS; names are looked up here, and the proxy is asked for one address after the other, over "
                        "a connection each (port 1080). SOCKS4 reaches IPv4 alone.",
                    ),
                    ("http", "CONNECT; the proxy looks names up (port 8080)"),
                    (
                        "https",
                        "the same over TLS (port 443). The proxy's certificate is verified with the system's "
                        "authorities or --cafile. All other options of TLS are about the target.",
                    ),
                ]
            ),
            "fetch asks HTTP proxies for http URLs as a whole, and for the server of https URLs. Without --proxy it "
            "heeds the environment as curl does: http_proxy, https_proxy, all_proxy and no_proxy.",
            "Some proxies drop what they still have to send when they see our end, so it goes out after the answer, as "
            "to a TLS server: see netkit help ending, and --shutdown-after.",
            "-4, -6 and --source are about the connection to the nearest proxy, whose address is the peer's in "
            "messages, logs and NETKIT_PEER_HOST. -w bounds all steps together.",
        ],
    ),
    Section(
        "USER AND PASSWORD",
        [
            "They stand in the URL, percent-encoded: http://USER:PASSWORD@HOST. All users of a machine can read "
            "command lines, so the password may be in NETKIT_PROXY_PASSWORD instead, for URLs with a user alone, or "
            "both in a file (--proxy-user-file). HTTP sends them as Basic, SOCKS5 if the proxy asks for them; SOCKS4 "
            "has a user alone. No message, event or log has them.",
        ],
    ),
    Section(
        "EXIT CODES",
        [
            Terms(
                [
                    ("5", "the name of a proxy was not found"),
                    ("7", "a proxy refused the connection, or says that the target cannot be reached (--wait goes on)"),
                    ("28", "no answer in time"),
                    ("60, 35", "the TLS handshake with a proxy failed, as with the target"),
                    ("97", "the proxy refused or failed; the message has its reason"),
                ]
            ),
            "ssh -D closes the connection if it cannot reach the target, which is 97. Exit code 0 means that the "
            "nearest proxy acknowledged every byte of ours: whether the target did, no proxy tells.",
        ],
    ),
)

TOPICS = {
    "addresses": Topic("how addresses and ports are written", [ADDRESSES]),
    "ending": Topic("when a conversation ends", _ENDING),
    "exit-codes": Topic("what each exit code means", [EXIT_STATUS]),
    "proxies": Topic("how to go through proxies", _PROXIES),
    "values": Topic("how durations, sizes, text and bytes are written", [VALUES]),
}

SUMMARIES = [(f"netkit help {name}", topic.summary) for name, topic in TOPICS.items()]
