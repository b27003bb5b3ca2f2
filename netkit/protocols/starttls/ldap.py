"""STARTTLS in LDAP: an extended request and its response (RFC 4511, sections 4.12 and 4.14)."""

from netkit.protocols.dialogue import Malformed, Names, Steps, refused
from netkit.protocols.ldap import EXTENDED_RESPONSE, SUCCESS, element, end_of_message, parse, request, result

_OID = b"1.3.6.1.4.1.1466.20037"
_EXTENDED_REQUEST, _REQUEST_NAME = 0x77, 0x80
_MESSAGE = 1  # the message id; 0 is for unsolicited notifications


def ldap(names: Names) -> Steps[None]:
    """The extended operation StartTLS."""
    yield request(_MESSAGE, element(_EXTENDED_REQUEST, element(_REQUEST_NAME, _OID)))
    answer = yield end_of_message
    message = parse(answer)
    if message.operation != EXTENDED_RESPONSE:
        raise Malformed(answer)
    code, words = result(message, answer)
    if code != SUCCESS or message.id != _MESSAGE:
        raise refused("STARTTLS", words)
