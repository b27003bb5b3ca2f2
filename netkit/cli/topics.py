"""The prose of the manual: sections that pages share, and chapters of ``netkit help`` that belong to no command."""

from collections.abc import Sequence
from typing import NamedTuple

from netkit.core.errors import Exit

Pairs = Sequence[tuple[str, str]]
"""Terms with their meanings."""


class Terms(NamedTuple):
    """Terms and what each means, maybe under a heading. ``macro`` is mdoc's for a term; Fl is any words of usage."""

    pairs: Pairs
    macro: str = ""
    heading: str = ""


class Section(NamedTuple):
    """A heading over paragraphs and terms."""

    title: str
    blocks: Sequence[str | Terms]


class Topic(NamedTuple):
    """A chapter, and what it is about."""

    summary: str
    sections: Sequence[Section]


SUMMARY = "talk TCP, UDP and unix sockets from the shell"

EXAMPLES = (
    ("netkit connect example.org 80", "join stdin and stdout to a TCP port"),
    ("netkit listen :9000 > file", "accept one connection, save what it sends"),
    ("netkit portcheck db:5432 --wait 60s", "wait until a port is open"),
    ("netkit echo 0 -- make test", "run a server while a command runs"),
)

DESCRIPTION = (
    "netkit connects the shell to TCP, UDP and unix sockets, as a client and as a server. Exit status 0 means that "
    "every byte of a conversation was delivered. Every failure is one line, and has an exit status of its own. UDP has "
    "no acknowledgements: there 0 means that the system took every datagram and that no error came back.",
    "Standard output has only what the peer sent, or the answer. Messages are single lines on standard error. A client "
    "prints none unless something failed, and a server prints where it listens. With -v they print what happens, with "
    "-q nothing at all. On a terminal, control bytes from a peer are made visible.",
    "An input that cannot be read is exit status 26. Only if standard input is a directory, Python itself does not "
    "start: it prints an error, and the exit status is 1.",
)

OPTIONS = (
    ("-h, --help", "Show the commands; after a COMMAND, its options."),
    ("--version", "Print the version."),
)

ADDRESSES = Section(
    "ADDRESSES",
    [
        Terms(
            (
                ("HOST PORT, HOST:PORT", "A port of a host. A server listens on every address of the host."),
                ("[::1]:80, ::1 80", "An IPv6 address, with its zone if it needs one: fe80::1%eth0."),
                ("PORT", "Servers only: this machine, on 127.0.0.1 and ::1."),
                (":PORT", "A client connects to this machine; a server listens on every interface, IPv4 and IPv6."),
                ("unix:PATH", "A unix socket. A server creates it for its own user only, with mode 0600."),
                (
                    "unix:@NAME",
                    "An abstract unix socket, on Linux. A server accepts clients of its own user and of root.",
                ),
                ("tls:ADDRESS", "ADDRESS over TLS, as with --tls."),
                ("udp:ADDRESS", "A conversation in datagrams, for connect and listen."),
            ),
            "Fl",
        ),
        "A port is a decimal number up to 65535, or the name of a service. With port 0 a server gets a free port from "
        "the system, the same for IPv4 and IPv6.",
    ],
)

_VALUES = (
    ("D", "A duration: 500ms, 2s, 1.5, 1m, 1h or 30d. A bare number is seconds."),
    ("N", "A whole number, 1 or more."),
    ("SIZE", "Bytes, or bytes per second: 1500, 64K, 1M or 2G, in powers of 1024."),
    ("TEXT", r"Text in which \n, \r, \t, \0, \\ and \xNN stand for bytes."),
    ("HEX", "Bytes as pairs of hex digits, with spaces between bytes if wanted."),
)

VALUES = Section("VALUES", [Terms(_VALUES, "Fl")])

EXIT_STATUS = Section(
    "EXIT STATUS", [Terms([("128+n" if code is Exit.SIGNAL else str(int(code)), code.meaning) for code in Exit])]
)

ENVIRONMENT = (
    ("NETKIT_DEBUG", "If set, a failure also prints its traceback."),
    (
        "NETKIT_PAGER, MANPAGER, PAGER",
        "The pager for help on a terminal: the first of these that is set, less if none is. With cat, or an empty "
        "value, no pager is used.",
    ),
    ("NO_COLOR", "If set and not empty, nothing is coloured or bold, unless --color says otherwise."),
    ("FORCE_COLOR", "Has no effect on a pipe or a file: use --color always. On a terminal NO_COLOR overrides it."),
    ("TERM", "If dumb or unknown, a terminal gets no escape sequences: nothing is coloured, and nothing moves."),
)

FORMAT = (
    "FORMAT is one word: typed fields, 'u16:port u32le:seq ip', or codes of Python's struct, '!HIB'. If any part of it "
    "is a field, and it has no mark in front, all parts are fields: ip and hex are fields, !ip and !hex are codes. "
    "Without a mark, codes are in network order.",
    Terms(
        (
            ("u8 u16 u32 u64", "Unsigned integers of that many bits."),
            ("i8 i16 i32 i64", "Signed integers."),
            ("f32 f64", "Floating-point numbers."),
            ("ip ip6 mac", "Addresses: 192.0.2.1, 2001:db8::1, 02:00:5e:10:00:01."),
            ("str, str8", "TEXT of any length, or padded with NULs to 8 bytes."),
            ("hex, hex8", "Any number of bytes in hex, or 8 bytes."),
            ("TYPEle", "Any type in little-endian order."),
            ("TYPE:NAME", "A name for the field, used as its key in JSON."),
        ),
        "Ic",
        "Fields",
    ),
    Terms(
        (
            ("b h i l q", "Signed integers of 1, 2, 4, 4 and 8 bytes; B H I L Q are unsigned."),
            ("e f d", "Floating-point numbers of 2, 4 and 8 bytes."),
            ("? c", "? is false or true (0 or 1); c is one byte as TEXT."),
            ("8s 8p", "TEXT padded with NULs to 8 bytes; in p the first byte is the length of the rest."),
            ("x", "A byte of padding, without a value."),
            ("n N P", "Sizes and pointers of this machine, only after @."),
            ("4H", "A count means that many values; with s and p it means bytes."),
            (
                "! > < = @",
                "A mark before all codes: network, big-endian, little-endian, native, and native aligned order.",
            ),
        ),
        "Ic",
        "Codes",
    ),
)

FOR_COMMAND = (
    "COMMAND starts when the server is ready, and gets the server's standard input. When COMMAND ends, the server "
    "stops and exits with its exit code. If the server stops first, as by --until, it waits for COMMAND; --for ends "
    "COMMAND. If no standard descriptor of COMMAND is a terminal, COMMAND gets a process group of its own, and the "
    "whole group is ended with it. Its environment says where to connect:",
    Terms(
        (
            ("NETKIT_HOST", "The IP address; 127.0.0.1 or ::1 if the server listens on every interface."),
            ("NETKIT_PORT", "The port."),
            ("NETKIT_ADDRESS", "Both in one word, or unix:PATH, as netkit connect takes it."),
        ),
        "Ev",
    ),
)

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

CHAPTERS = Section("TOPICS", [Terms([(f"netkit help {name}", topic.summary) for name, topic in TOPICS.items()], "Ic")])
