"""PostgreSQL, and MySQL with MariaDB: a login that gets nowhere, up to what the server says of it."""

from netkit.protocols.dialogue import Malformed, Names, NotReady, Steps, quoted
from netkit.protocols.mysql import (
    CAPABILITIES,
    MORE_DATA,
    OK,
    SSL,
    SWITCH,
    client,
    end_of_greeting,
    end_of_packet,
    error,
    offered,
    packet,
)
from netkit.protocols.postgres import TERMINATE, end_of_answer, error_fields, startup

_NOBODY = "netkit"  # as whom nobody logs in
_DATABASE = "postgres"  # is in every cluster

# Classes of SQLSTATE, appendix A of PostgreSQL's manual: who we are, and which database, is all that is wrong.
_ALIVE_CLASSES = (b"28", b"3D")

# Errors of MySQL and MariaDB by which a server that works refuses us: access denied, for lack of a password too, a way
# to authenticate that we do not know, and no TLS. Any other, such as 1040 for too many connections, is not ready.
_ALIVE_ERRORS = {1045: "", 1698: "", 1251: "", 3159: "it wants TLS"}
_QUIT = b"\x01"  # COM_QUIT
_NO_PASSWORD = b"\0"  # which has a length before it
_PLUGIN = b"mysql_native_password\0"


def postgres(names: Names) -> Steps[str]:
    """A StartupMessage, as pg_isready sends it. A password that is asked for is not given, which no server logs."""
    yield startup(_NOBODY, _DATABASE)
    accepted = False
    while True:
        answer = yield end_of_answer
        kind, value = answer[:1], answer[5:]
        if kind == b"E":
            fields = error_fields(answer)
            if fields.get(b"C", b"").startswith(_ALIVE_CLASSES):
                return ""
            raise NotReady(quoted(fields[b"M"]))
        if kind == b"R" and any(value):
            return ""  # and a Terminate would be one line in its log
        accepted = accepted or kind == b"R"
        if accepted and kind in b"SKZ":  # it takes anybody, and had room for us
            yield TERMINATE
            return ""


def mysql(names: Names) -> Steps[str]:
    """An answer to the greeting, without a password.

    A server that hears nothing after its greeting counts an error of the client's host, and blocks it after some
    ("Host Cache" in MySQL's manual); that access is denied is none.
    """
    capabilities, number = CAPABILITIES, 0
    if names.greeted:  # after an SSLRequest
        capabilities, number = CAPABILITIES | SSL, 1
    else:
        greeting = yield end_of_greeting
        if (words := _refusal(greeting)) is not None:
            return words
        offered(greeting)
    answer = client(capabilities) + _NOBODY.encode() + b"\0" + _NO_PASSWORD + _PLUGIN
    while True:
        yield packet(number + 1, answer)
        number += 2
        reply = yield end_of_packet(number)
        if (words := _refusal(reply)) is not None:
            return words
        kind = reply[4] if len(reply) > 4 else None
        if kind == OK:
            yield packet(0, _QUIT)
            return ""
        if kind == MORE_DATA:
            return ""
        if kind != SWITCH or number > 3:
            raise Malformed(reply)
        answer = b""  # no password, whatever way it wants


def _refusal(reply: bytes) -> str | None:
    """What is to be told of a server that works and answers by an error, if it does. Raises NotReady for others."""
    failure = error(reply)
    if failure is None:
        return None
    number, message = failure
    if number not in _ALIVE_ERRORS:
        raise NotReady(quoted(message))
    return _ALIVE_ERRORS[number]
