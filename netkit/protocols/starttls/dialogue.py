"""The runner of a STARTTLS dialogue, which refuses plain text after it."""

from netkit.protocols.dialogue import LIMIT, Conversation, Refused

NOT_OFFERED = "it does not offer STARTTLS"
INJECTED = "it sent plain text behind its go-ahead for TLS"


class Upgrade(Conversation[None]):
    """A running dialogue; ``done`` is set when TLS is to begin.

    It refuses plain text after the server's go-ahead: a client that kept it would take injected bytes for part of the
    secured conversation (CVE-2021-23222).
    """

    too_much = f"it sent {LIMIT >> 10} KiB, and no go-ahead for TLS"
    ended = "it ended before TLS began"

    def receive(self, data: bytes) -> bytes:
        sending = super().receive(data)
        if self.done and self.unread:
            raise Refused(INJECTED)
        return sending
