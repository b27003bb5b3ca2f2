"""The table of probes, by the scheme of their URLs.

A probe is a dialogue (``netkit/protocols/dialogue.py``). It sends what a client sends first, and returns a remark on
the ready server, "" for none. It raises NotReady if the server says that it is not, and Refused or Malformed for any
other answer. It does not log in, changes nothing, and ends with the protocol's closing message, if there is one.
Over UDP the bytes before the first Frame are one datagram, and each unit is one.
"""

from importlib import import_module
from typing import NamedTuple

from netkit.core.address import Protocol
from netkit.protocols.dialogue import Names, Steps


class Probe(NamedTuple):
    """A row of the table: the default port, and the dialogue as "FILE.FUNCTION".

    ``tls`` is whether it always runs over TLS. ``alpn`` are the protocols to offer if it does. ``protocol`` is "tcp" or
    "udp". ``resource`` is whether the URL may have a path, which names a part of the server.
    """

    port: int
    dialogue: str
    tls: bool = False
    protocol: Protocol = "tcp"
    alpn: tuple[str, ...] = ()
    resource: bool = False

    def begin(self, names: Names) -> Steps[str]:
        """Start a dialogue."""
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
