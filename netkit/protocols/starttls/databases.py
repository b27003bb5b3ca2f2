"""The requests for TLS of PostgreSQL and MySQL, which clients send before the login."""

from netkit.protocols.dialogue import Names, Refused, Steps, refused
from netkit.protocols.mysql import CAPABILITIES, SSL, client, end_of_greeting, error, offered, packet
from netkit.protocols.postgres import SSL_REQUEST, end_of_error, error_fields

_NOT_OFFERED = "it does not offer TLS"


def postgres(names: Names) -> Steps[None]:
    """The SSLRequest of PostgreSQL. Its answer is the letter S or N, or an error that ends the connection."""
    yield SSL_REQUEST
    answer = yield _end_of_answer
    if answer == b"N":
        raise Refused(_NOT_OFFERED)
    if answer != b"S":
        raise refused("TLS", error_fields(answer)[b"M"])


def _end_of_answer(data: bytes) -> int:
    return 1 if data[:1] in (b"S", b"N") else end_of_error(data)


def mysql(names: Names) -> Steps[None]:
    """The SSLRequest of MySQL and MariaDB, sent in response to the greeting. TLS follows without an answer."""
    greeting = yield end_of_greeting
    if failure := error(greeting):
        raise refused("the connection", failure[1])
    if not offered(greeting) & SSL:
        raise Refused(_NOT_OFFERED)
    yield packet(1, client(CAPABILITIES | SSL))
