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
            "This is how connect, listen and relay end a conversation over TCP, TLS and unix sockets. netkit sends its "
            "end when its input has ended, and exits when the peer's end means that the conversation is over.",
        ],
    ),
    Section(
        "OUR INPUT ENDS",
        [
            "netkit sends all of the input and then its end, which is a half-close, or close_notify with TLS. Then it "
            "reads until the peer ends, however late the answer comes. When netkit sends its end:",
            Terms(
                [
                    ("TCP, unix", "at once"),
                    ("TLS server", "at once"),
                    (
                        "TLS client, --proxy",
                        "when the peer ends; or when an answer has begun and then nothing has come for 2s; or when "
                        "nothing at all has come for 10s, with a message. Some TLS servers and proxies drop what they "
                        "still have to send when they see our end.",
                    ),
                    ("--until, --max-bytes", "as a TLS client does, until they are met; then the conversation ends"),
                    (
                        "listen </dev/null",
                        "when the client ends, or after 10s of silence; with --keep only when it ends",
                    ),
                    ("--send-only", "at once; netkit exits when the peer has acknowledged everything"),
                    ("--shutdown-after D", "when nothing has come for D (0: at once)"),
                    ("--no-shutdown", "never; netkit exits when the peer ends"),
                ]
            ),
        ],
    ),
    Section(
        "THE PEER ENDS",
        [
            "netkit closes stdout at once, so that the program that reads it can go on. It sends the input that is "
            "already there. Then it depends on the input:",
            Terms(
                [
                    ("input has ended", "exit"),
                    ("a terminal", "exit when nothing was typed for 500ms (--grace)"),
                    ("a pipe, silent peer", "a peer that never sent a byte only receives: send until the input ends"),
                    (
                        "a pipe, peer has sent",
                        "exit when the input is idle for 500ms (--grace); a message says that it was left open, if "
                        "some of it had been sent",
                    ),
                    ("a program", "wait until it ends, but at most --grace if that is given"),
                    ("--hold, --send-only", "wait for the end of input in every case"),
                ]
            ),
            "While netkit stays, it probes the peer by TCP keepalive: after 1s, then every 5s, until 12 probes in a "
            "row are lost. A peer that only half-closed answers the probes. A peer that has gone is noticed within "
            "about a minute, on a unix socket at once; then netkit exits too.",
        ],
    ),
    Section(
        "EXIT CODES",
        [
            Terms(
                [
                    ("0", "the peer acknowledged all of our bytes, and all that came was written"),
                    ("8", "--until or --max-bytes was not met"),
                    ("18", "TLS ended without close_notify"),
                    ("55", "some of our bytes were not acknowledged; the message says how many"),
                    ("56", "the connection was reset, but all of our bytes were acknowledged"),
                ]
            ),
            "A reset after the peer's close_notify is no error if all of our bytes were acknowledged. When netkit cuts "
            "a connection short (a signal, --timeout, a failure on the other side of a relay), it resets it, so that "
            "the peer never takes a short answer for a complete one. Ctrl-C in a conversation typed on a terminal is "
            "the end of input, and not a reset.",
        ],
    ),
)

_PROXIES = (
    Section(
        "THROUGH PROXIES",
        [
            "--proxy URL makes connect, fetch, portcheck and the target side of relay go through a proxy. Given "
            "several times, it makes a chain: netkit asks the first proxy for the second, and so on, and the last one "
            "for the target.",
            Terms(
                [
                    ("socks5h, socks4a", "SOCKS; the proxy looks up names, and netkit looks up none (port 1080)"),
                    (
                        "socks5, socks4",
                        "SOCKS; netkit looks up names, and asks the proxy for one address after the other, each over a "
                        "new connection (port 1080). SOCKS4 reaches only IPv4.",
                    ),
                    ("http", "CONNECT; the proxy looks up names (port 8080)"),
                    (
                        "https",
                        "the same over TLS (port 443). The proxy's certificate is verified with the system's "
                        "authorities or --cafile. All other TLS options are about the target.",
                    ),
                ]
            ),
            "fetch sends requests for http URLs to the HTTP proxy itself, and uses CONNECT for https URLs. Without "
            "--proxy it uses http_proxy, https_proxy, all_proxy and no_proxy of the environment as curl does.",
            "Some proxies drop what they still have to send when they see our end. So netkit sends it after the "
            "answer, as to a TLS server: see netkit help ending, and --shutdown-after.",
            "-4, -6 and --source apply to the connection to the nearest proxy. In messages, logs and NETKIT_PEER_HOST "
            "the address of the peer is that of this proxy. -w limits the time for all steps together.",
        ],
    ),
    Section(
        "USER AND PASSWORD",
        [
            "Write them percent-encoded in the URL: http://USER:PASSWORD@HOST. All users of a machine can read command "
            "lines; to hide the password, put only the user into the URL and the password into NETKIT_PROXY_PASSWORD, "
            "or both into a file (--proxy-user-file). They are sent to HTTP proxies as Basic, and to SOCKS5 proxies "
            "that ask for them; SOCKS4 has only a user. No message, event or log shows them.",
        ],
    ),
    Section(
        "EXIT CODES",
        [
            Terms(
                [
                    ("5", "the name of a proxy was not found"),
                    (
                        "7",
                        "a proxy refused the connection, or says that it cannot reach the target; --wait tries again",
                    ),
                    ("28", "no answer in time"),
                    ("60, 35", "the TLS handshake with a proxy failed, as with the target"),
                    ("97", "the proxy refused or failed; the message has its reason"),
                ]
            ),
            "ssh -D closes the connection if it cannot reach the target, which is 97. Exit code 0 means that the "
            "nearest proxy acknowledged all of our bytes; a proxy does not tell whether the target did.",
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
