"""Probes of PostgreSQL and of MySQL and MariaDB: a login without password, up to the server's answer."""

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

_NOBODY = "netkit"  # the user, which need not exist
_DATABASE = "postgres"  # exists in every cluster

# Classes of SQLSTATE, appendix A of PostgreSQL's manual: invalid authorization, invalid database. The server works.
_ALIVE_CLASSES = (b"28", b"3D")

# Errors of MySQL and MariaDB by which a working server refuses us: access denied (also for lack of a password), an
# authentication that we do not know, and no TLS. After any other, such as 1040, too many connections, it is not ready.
_ALIVE_ERRORS = {1045: "", 1698: "", 1251: "", 3159: "it wants TLS"}
_QUIT = b"\x01"  # COM_QUIT
_NO_PASSWORD = b"\0"  # length 0
_PLUGIN = b"mysql_native_password\0"


def postgres(names: Names) -> Steps[str]:
    """Send a StartupMessage, as pg_isready does. If the server asks for a password we leave, which it does not log."""
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
            return ""  # without a Terminate, which it would log
        accepted = accepted or kind == b"R"
        if accepted and kind in b"SKZ":  # logged in: it trusts everybody, and had a free connection
            yield TERMINATE
            return ""


def mysql(names: Names) -> Steps[str]:
    """Respond to the greeting, without a password.

    If a client just left after the greeting, the server would count an error of its host, and block it after some
    ("Host Cache" in MySQL's manual). A denied access does not count.
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
        answer = b""  # no password, by any plugin


def _refusal(reply: bytes) -> str | None:
    """The probe's result for an error of a working server, None if it is no error. Raises NotReady for others."""
    failure = error(reply)
    if failure is None:
        return None
    number, message = failure
    if number not in _ALIVE_ERRORS:
        raise NotReady(quoted(message))
    return _ALIVE_ERRORS[number]
