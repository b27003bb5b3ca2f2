"""The layer that has a plain dialogue, after which TLS begins."""

from collections.abc import Callable

from netkit.core.errors import Exit, Failure
from netkit.core.kernel import Group
from netkit.core.layer import Layer, Setting, Wrapped, unread
from netkit.core.stream import Connection
from netkit.protocols.dialogue import Names, Refused, converse, names_of
from netkit.protocols.starttls.databases import mysql, postgres
from netkit.protocols.starttls.dialogue import INJECTED, Dialogue, Upgrade
from netkit.protocols.starttls.ldap import ldap
from netkit.protocols.starttls.lines import ftp, imap, irc, lmtp, nntp, pop3, sieve, smtp
from netkit.protocols.starttls.xmpp import xmpp

DIALOGUES: dict[str, Callable[[Names], Dialogue]] = {
    each.__name__: each for each in (smtp, lmtp, imap, pop3, ftp, nntp, sieve, ldap, xmpp, irc, postgres, mysql)
}
_FIRST_RECORDS = (0x15, 0x16)  # an alert or a handshake: RFC 8446, section 5.1
# Where a server speaks first, and not again once TLS stands.
_GREETINGS = {
    "smtp": "220 {} ESMTP\r\n",
    "lmtp": "220 {} LMTP\r\n",
    "imap": "* OK {}\r\n",
    "pop3": "+OK {}\r\n",
    "ftp": "220 {}\r\n",
    "nntp": "200 {}\r\n",
}


def beginning(protocol: str, setting: Setting) -> Layer:
    """The layer beneath TLS: what has to be said before its handshake.

    It raises Failure PROTOCOL if the server refuses, says something malformed, ends, or says more than its go-ahead.
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
    """A connection on which TLS is to begin: what was injected may also come when our first record is on its way."""

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
    """The layer over TLS of a relay: its client has not seen how the server greeted, and gets a greeting from us.

    That of the server was plain text, which anybody can have written, and may offer what is over with TLS.
    """

    async def greet(stream: Connection, group: Group) -> Connection:
        words = _GREETINGS.get(protocol)
        if setting.client is None or words is None:
            return stream
        return unread(stream, words.format(setting.name or "localhost").encode())

    return greet
