"""A plain dialogue up to the moment when TLS begins."""

from netkit.protocols.dialogue import LIMIT, Conversation, Refused, Steps

Dialogue = Steps[None]
"""It returns when the handshake is to begin."""

NOT_OFFERED = "it does not offer STARTTLS"
INJECTED = "it sent plain text behind its go-ahead for TLS"


class Upgrade(Conversation[None]):
    """One dialogue on its way; ``done`` once TLS is to begin.

    What a server says in plain text behind its go-ahead would pass for part of the secured conversation with clients
    that keep what they have read (CVE-2021-23222), so it is refused.
    """

    too_much = f"it sent {LIMIT >> 10} KiB, and no go-ahead for TLS"
    ended = "it ended before TLS began"

    def receive(self, data: bytes) -> bytes:
        sending = super().receive(data)
        if self.done and (self.unread or self.received > LIMIT):
            raise Refused(INJECTED)
        return sending
