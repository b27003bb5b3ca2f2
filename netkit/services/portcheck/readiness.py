"""Running a readiness probe over the connection to a port, or by datagrams."""

import errno

from netkit.core.errors import Exit, Failure
from netkit.core.kernel import DeadlineExceeded, deadline, now
from netkit.core.search import SearchTimeout
from netkit.core.stream import Connection
from netkit.core.units import duration
from netkit.protocols.dialogue import Conversation, Malformed, Names, Refused, converse, names_of, quoted
from netkit.protocols.probes.table import PROBES
from netkit.services.portcheck.check import OPEN, Check, ProbeResult
from netkit.services.portcheck.targets import Target

_LEFT = (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)  # the peer closed: the error depends on the timing


async def ask(stream: Connection, target: Target, check: Check, found: ProbeResult, patience: float) -> ProbeResult:
    """Probe the service of an open port, within ``patience`` seconds; return ``found`` with the answer added."""
    try:
        with deadline(now() + patience):
            words = await _have_dialogue(stream, target, check)
    except DeadlineExceeded:
        return _not_ready(found, f"no answer within {duration(patience)}", Exit.TIMEOUT)
    except Refused as error:
        return _refused(found, target, error)
    except Failure as failure:
        if failure.errno in _LEFT:
            return _not_ready(found, Conversation.ended, Exit.PROTOCOL)._replace(hint=_tls_hint(target))
        tells_itself = failure.exit is Exit.TLS or isinstance(failure, SearchTimeout)
        exit = failure.exit if tells_itself else Exit.PROTOCOL
        return _not_ready(found, failure.reason, exit)._replace(hint="" if target.tls else failure.hint)
    return found._replace(ready=True, reason=words)


def _tls_hint(target: Target) -> str:
    """A hint for a server that closed the connection, if the request was plain HTTP."""
    if target.probe != "http" or target.tls:
        return ""
    from netkit.protocols.http import TLS_HINT

    return TLS_HINT


async def _have_dialogue(stream: Connection, target: Target, check: Check) -> str:
    if target.url is not None:
        from netkit.protocols.probes.http import http

        return await http(stream, target.url, check.fields, check.statuses, check.expect)
    names = names_of(target.host or "localhost", stream)._replace(greeted=check.greeted, resource=target.resource)
    return await converse(stream, Conversation(PROBES[target.probe].begin(names)))


class Datagrams:
    """A readiness probe over UDP: ``payload`` is the datagram to send, ``answered`` interprets the answers."""

    def __init__(self, target: Target) -> None:
        self._target = target
        names = Names(target.host or "localhost", "localhost", resource=target.resource)
        self._conversation = Conversation(PROBES[target.probe].begin(names))
        self.payload = self._conversation.receive(b"")

    def answered(self, data: bytes, found: ProbeResult, yet: ProbeResult) -> ProbeResult:
        """The result after a datagram: ``found`` with the answer added, or ``yet`` if it does not answer ours."""
        try:
            self._conversation.receive(data)
        except Refused as error:
            return _refused(found, self._target, error)
        if not self._conversation.done:
            return yet
        return found._replace(ready=True, reason=self._conversation.result)


def _refused(found: ProbeResult, target: Target, error: Refused) -> ProbeResult:
    reason = str(error)
    if isinstance(error, Malformed):
        reason = f"it does not speak {target.probe}: {quoted(error.answer)}".removesuffix(": ")
    return _not_ready(found, reason, Exit.PROTOCOL)


def _not_ready(found: ProbeResult, reason: str, exit: Exit) -> ProbeResult:
    assert found.state == OPEN
    return found._replace(ready=False, reason=reason, exit=exit)
