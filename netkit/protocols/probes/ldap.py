"""The probe of LDAP servers: a search of the root DSE (RFC 4511, section 4.5.1, and RFC 4512, section 5.1)."""

from netkit.protocols.dialogue import Malformed, Names, NotReady, Steps, quoted
from netkit.protocols.ldap import (
    BOOLEAN,
    ENUMERATED,
    EXTENDED_RESPONSE,
    INTEGER,
    SEQUENCE,
    STRING,
    element,
    end_of_message,
    parse,
    request,
    result,
)

_SEARCH_REQUEST, _SEARCH_ENTRY, _SEARCH_DONE, _SEARCH_REFERENCE = 0x63, 0x64, 0x65, 0x73
_PRESENT = 0x87
_UNBIND = b"\x42\0"
_SEARCH = element(
    _SEARCH_REQUEST,
    element(STRING),  # the root DSE
    element(ENUMERATED, b"\0"),  # scope: baseObject
    element(ENUMERATED, b"\0"),  # neverDerefAliases
    element(INTEGER, b"\0"),  # no size limit
    element(INTEGER, b"\0"),  # no time limit
    element(BOOLEAN, b"\0"),
    element(_PRESENT, b"objectClass"),
    element(SEQUENCE, element(STRING, b"1.1")),  # no attributes
)
_PASSWORD, _TLS = "it wants a password", "it wants TLS"
# Results of a ready server: success, limits, referrals, no root DSE; a login or TLS is required.
_ALIVE = {**dict.fromkeys((0, 3, 4, 10, 11, 32), ""), **dict.fromkeys((8, 48, 50), _PASSWORD), 13: _TLS}
_TOLD = (1, 53)  # operationsError, unwillingToPerform: of servers that require a login, as their text explains


def ldap(names: Names) -> Steps[str]:
    """Search without a login. A server that sends a notice of disconnection (message id 0) is not ready."""
    yield request(1, _SEARCH)
    while True:
        answer = yield end_of_message
        message = parse(answer)
        if message.id == 1 and message.operation in (_SEARCH_ENTRY, _SEARCH_REFERENCE):
            continue
        if message.operation != (_SEARCH_DONE if message.id == 1 else EXTENDED_RESPONSE) or message.id > 1:
            raise Malformed(answer)
        code, words = result(message, answer)
        if message.id == 0 or code not in (*_ALIVE, *_TOLD):
            raise NotReady(quoted(words))
        yield request(2, _UNBIND)
        return _ALIVE.get(code, quoted(words))
