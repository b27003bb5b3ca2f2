"""The layers for STARTTLS: the plain-text dialogue before TLS, and a relay's greeting to its client after it."""

from collections.abc import Callable

from netkit.core.errors import Exit, Failure
from netkit.core.kernel import Group
from netkit.core.layer import Layer, Setting, Wrapped, unread
from netkit.core.stream import Connection
from netkit.protocols.dialogue import Names, Refused, Steps, converse, names_of
from netkit.protocols.starttls.databases import mysql, postgres
from netkit.protocols.starttls.dialogue import INJECTED, Upgrade
from netkit.protocols.starttls.ldap import ldap
from netkit.protocols.starttls.lines import ftp, imap, irc, lmtp, nntp, pop3, sieve, smtp
from netkit.protocols.starttls.xmpp import xmpp

DIALOGUES: dict[str, Callable[[Names], Steps[None]]] = {
    each.__name__: each for each in (smtp, lmtp, imap, pop3, ftp, nntp, sieve, ldap, xmpp, irc, postgres, mysql)
}
_FIRST_RECORDS = (0x15, 0x16)  # first byte of an alert or a handshake: RFC 8446, section 5.1
# Protocols in which the server greets before STARTTLS, and not again after the handshake.
_GREETINGS = {
    "smtp": "220 {} ESMTP\r\n",
    "lmtp": "220 {} LMTP\r\n",
    "imap": "* OK {}\r\n",
    "pop3": "+OK {}\r\n",
    "ftp": "220 {}\r\n",
    "nntp": "200 {}\r\n",
}


def beginning(protocol: str, setting: Setting) -> Layer:
    """The layer below TLS, which has the dialogue of ``protocol`` with the server.

    It raises Failure PROTOCOL if the server refuses, sends something malformed or more than its go-ahead, or ends.
    """

    async def have_dialogue(stream: Connection, group: Group) -> Connection:
        def failed(reason: str) -> Failure:
            action = f"secure the connection to {stream.name}"
            return Failure(Exit.PROTOCOL, action, reason, detail=f"--starttls {protocol}")

        try:
            await converse(stream, Upgrade(DIALOGUES[protocol](names_of(setting.name, stream))))
        except Refused as error:
            raise failed(str(error)) from error
        return _Upgraded(stream, failed)

    return have_dialogue


class _Upgraded(Wrapped):
    """A connection on which TLS begins. Checks the first byte, as plain text may follow our ClientHello, too."""

    def __init__(self, stream: Connection, failed: Callable[[str], Failure]) -> None:
        super().__init__(stream)
        self._failed = failed
        self._begun = False

    async def recv(self) -> bytes:
        data = await super().recv()
        if not self._begun and data:
            if data[0] not in _FIRST_RECORDS:
                raise self._failed(INJECTED)
            self._begun = True
        return data


def greeting(protocol: str, setting: Setting) -> Layer:
    """The layer above TLS in a relay: it sends a greeting of ours to the client, who has not seen the server's.

    The server's greeting was in plain text, so it may be forged, and it may offer what is not allowed after TLS.
    """

    async def greet(stream: Connection, group: Group) -> Connection:
        words = _GREETINGS.get(protocol)
        if setting.client is None or words is None:
            return stream
        return unread(stream, words.format(setting.name or "localhost").encode())

    return greet
