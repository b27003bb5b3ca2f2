"""The protocols that can be asked whether a server is ready, by the scheme of their URLs.

A probe is a dialogue (``netkit/protocols/dialogue.py``) that says what a client says first and returns what is to be
told of a server that is ready, "" for nothing. It raises NotReady if the server says that it is not, and Refused or
Malformed for any other answer. Nobody is logged in, nothing is changed, and the last bytes are a farewell where the
protocol has one. Over UDP the bytes up to the first Frame are one datagram, and each unit is one.
"""

from importlib import import_module
from typing import NamedTuple

from netkit.core.address import Protocol
from netkit.protocols.dialogue import Names, Steps


class Probe(NamedTuple):
    """One row: the port if none is typed, the file and the function of the dialogue, and what is beneath it.

    ``alpn`` are the protocols that TLS agrees on, which is there with ``tls``, or if it is asked for.
    ``resource`` is whether what follows the server in a URL says what of it is asked for.
    """

    port: int
    dialogue: str
    tls: bool = False
    protocol: Protocol = "tcp"
    alpn: tuple[str, ...] = ()
    resource: bool = False

    def begin(self, names: Names) -> Steps[str]:
        """A new dialogue with a server of that name."""
        file, _, function = self.dialogue.rpartition(".")
        steps: Steps[str] = getattr(import_module(f"netkit.protocols.probes.{file}"), function)(names)
        return steps


PROBES = {
    "postgres": Probe(5432, "databases.postgres", alpn=("postgresql",)),
    "postgresql": Probe(5432, "databases.postgres", alpn=("postgresql",)),
    "mysql": Probe(3306, "databases.mysql"),
    "mariadb": Probe(3306, "databases.mysql"),
    "mongodb": Probe(27017, "mongodb.mongodb"),
    "redis": Probe(6379, "redis.redis"),
    "rediss": Probe(6379, "redis.redis", tls=True),
    "memcached": Probe(11211, "memcached.memcached"),
    "amqp": Probe(5672, "brokers.amqp"),
    "amqps": Probe(5671, "brokers.amqp", tls=True),
    "kafka": Probe(9092, "brokers.kafka"),
    "nats": Probe(4222, "nats.nats"),
    "mqtt": Probe(1883, "mqtt.mqtt"),
    "mqtts": Probe(8883, "mqtt.mqtt", tls=True),
    "smtp": Probe(25, "mail.smtp"),
    "smtps": Probe(465, "mail.smtp", tls=True),
    "lmtp": Probe(24, "mail.lmtp"),
    "imap": Probe(143, "mail.imap"),
    "imaps": Probe(993, "mail.imap", tls=True),
    "pop3": Probe(110, "mail.pop3"),
    "pop3s": Probe(995, "mail.pop3", tls=True),
    "ftp": Probe(21, "ftp.ftp"),
    "ftps": Probe(990, "ftp.ftp", tls=True),
    "ssh": Probe(22, "ssh.ssh"),
    "ldap": Probe(389, "ldap.ldap"),
    "ldaps": Probe(636, "ldap.ldap", tls=True),
    "dns": Probe(53, "dns.root_servers", protocol="udp"),
    "ntp": Probe(123, "ntp.ntp", protocol="udp"),
    "grpc": Probe(50051, "grpc.grpc", alpn=("h2",), resource=True),
    "grpcs": Probe(50051, "grpc.grpcs", tls=True, alpn=("h2",), resource=True),
}
