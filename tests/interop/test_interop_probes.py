"""Probes with real servers, ready and not ready, and what these log about them.

Some answers are hard to provoke: in protected mode, lame duck mode or a cluster that is down, during shutdown, and of
full mail servers. MongoDB is in no package of Debian or PyPI, and of Kafka there is only a mock, in librdkafka. The
other answers are in tests/protocols/test_probes.py.
"""

import contextlib
import json
import os
import re
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from netkit.cli.layers import STARTTLS
from netkit.protocols.probes.table import PROBES
from tests.support import Finished, netkit, running
from tests.support.binary import postgres_startup
from tests.support.certificates import Pki
from tests.support.line_servers import chronyd, command, memcached, mosquitto, nats, nsd, openssh, redis
from tests.support.partners import dnsmasq
from tests.support.peers import connect, receive
from tests.support.processes import PATIENCE, tool
from tests.support.starttls_servers import (
    HERE,
    Files,
    dovecot,
    files_for,
    mariadb,
    postfix,
    postgresql,
    rabbitmq,
    slapd,
    vsftpd,
)

# The number of probes of a server. An error of ours would be logged as often, and one of a port scan of this machine
# once.
ROUNDS = 6
PASSWORD = "ready: it wants a password"
OTHER = "127.0.0.2"  # this machine, under an address that servers do not know
TRY_AGAIN = 2  # in netdb.h: the resolver does not answer
OFTEN = 20


def asked(*args: str) -> tuple[int, list[str]]:
    """Run portcheck, check that all ports are open, and return the exit code and the details."""
    done = netkit("portcheck", *args)
    rows = [line.split("\t") for line in done.out.decode().splitlines()]
    assert rows and all(row[3] == "open" for row in rows), done
    return done.code, [row[5] for row in rows]


def ask(scheme: str, port: int, *options: str) -> tuple[int, str]:
    """Probe a server once; return the exit code and the detail."""
    code, [detail] = asked(f"{scheme}://{HERE}:{port}", *options)
    return code, detail


def often(target: str) -> tuple[int, set[str]]:
    """Probe a server ``OFTEN`` times in one run, with different URLs; return the exit code and the set of details."""
    code, details = asked(*(f"{target}/{number}" for number in range(OFTEN)), "--concurrency", "4")
    assert len(details) == OFTEN
    return code, set(details)


@contextlib.contextmanager
def from_other(port: int) -> Iterator[str]:
    """Yield the address of a relay, which connects to a server from ``OTHER``."""
    with running("relay", f"{HERE}:0", f"{HERE}:{port}", "--source", OTHER) as relay:
        yield f"{HERE}:{relay.port}"


@pytest.fixture
def files(pki: Pki) -> Iterator[Files]:
    """Provide the files of one server, in a folder."""
    with files_for(pki) as made:
        yield made


# -- ready

# What log lines about an error may contain.
BAD = re.compile(r"(?i)error|warning|fail|\berr\b|lost connection|invalid|reset|refused|time ?out|cannot|could not")
# What servers log at their start and end, without a client.
OWN = re.compile(r"overcommit|NIS|signal 15|signal received")

READY: dict[str, Callable[[Files], contextlib.AbstractContextManager[dict[str, int]]]] = {
    "redis": redis,
    "memcached": memcached,
    "nats": nats,
    "mosquitto": mosquitto,
    "postfix": partial(postfix, smtps="-o smtpd_tls_wrappermode=yes"),
    "dovecot": dovecot,
    "vsftpd": vsftpd,
    "vsftpd with TLS": partial(vsftpd, implicit_ssl="YES"),
    "sshd": openssh,
    "nsd": nsd,
    "chronyd": chronyd,
}


@pytest.mark.parametrize("name", READY)
def test_a_server_that_is_ready(name: str, files: Files, pki: Pki) -> None:
    """The probe finds the server ready, also over TLS and STARTTLS, and the server logs no errors about it."""
    with READY[name](files) as ports:
        for scheme in ports.keys() & PROBES.keys():
            target = f"{scheme}://localhost:{ports[scheme]}"
            secured = PROBES[scheme].tls
            often = [f"{target}/{number}" for number in range(ROUNDS)]
            trust = ("-4", "--cafile", pki.ca)
            done = netkit("portcheck", *often, "--concurrency", "4", *(trust if secured else ["-4"]))
            lines = done.out.decode().splitlines()
            assert (done.code, len(lines)) == (0, len(often)), done
            wanted = {"ntp": "ready: stratum 10"}.get(scheme, "ready, TLSv1.3, " if secured else "ready")
            assert all(line.split("\t")[5].startswith(wanted) for line in lines), lines
            if scheme in STARTTLS:
                done = netkit("portcheck", target, "--starttls", scheme, *trust)
                assert (done.code, b"ready, TLSv1.3, " in done.out) == (0, True), done
    log = files.folder / "log"
    if log.exists():
        lines = log.read_text().splitlines()
        bad = Counter(
            re.sub(r"\d+|session=.*", "", line) for line in lines if BAD.search(line) and not OWN.search(line)
        )
        assert lines and all(count < ROUNDS for count in bad.values()), lines


# -- not ready


def test_redis(files: Files) -> None:
    """Redis is ready with a password, and not ready without its master, or while it is busy, full or loading data."""
    with redis(files, "--enable-debug-command", "yes") as ports:
        port = ports["redis"]
        command(port, "DEBUG POPULATE 1000 key 1000", "SAVE", "CONFIG SET requirepass x")
        assert ask("redis", port) == (0, PASSWORD)
        back = ("AUTH x", 'CONFIG SET requirepass ""')
        command(port, *back, "CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 1")
        code, detail = ask("redis", port)
        assert code == 8 and detail.startswith("not ready: MASTERDOWN ")
        command(port, "REPLICAOF NO ONE", "CONFIG SET busy-reply-threshold 1")
        with connect(port) as script, connect(port) as watching:
            script.sendall(b'EVAL "while true do end" 0\r\n')
            answer = b""
            while not answer.startswith(b"-BUSY"):
                watching.sendall(b"PING\r\n")
                answer = watching.recv(4096)
            code, detail = ask("redis", port)
            assert code == 8 and detail.startswith("not ready: BUSY ")
            watching.sendall(b"SCRIPT KILL\r\n")
            assert script.recv(4096).startswith(b"-ERR")
        with connect(port) as only:
            only.sendall(b"CONFIG SET maxclients 1\r\n")
            assert only.recv(4096) == b"+OK\r\n"
            assert ask("redis", port) == (8, "not ready: ERR max number of clients reached")
    # 20 ms for each of 1,000 keys, and an answer after 26 of them.
    slowly = ("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
    with redis(files, *slowly) as ports:
        port = ports["redis"]
        assert ask("redis", port) == (8, "not ready: LOADING Redis is loading the dataset in memory")
        command(port, "CONFIG SET key-load-delay 0")
        assert ask("redis", port, "--wait", "20s", "--interval", "10ms") == (0, "ready")


def test_memcached(files: Files) -> None:
    """memcached is ready with a password, and not ready if it is full."""
    passwords = files.folder / "passwords"
    passwords.write_text("me:secret\n")
    with memcached(files, "-Y", str(passwords)) as ports:
        assert ask("memcached", ports["memcached"]) == (0, PASSWORD)
    with memcached(files, "-c", "24", "-t", "1") as ports, contextlib.ExitStack() as held:
        for _ in range(24):
            held.enter_context(connect(ports["memcached"]))
        assert ask("memcached", ports["memcached"]) == (8, "not ready: ERROR Too many open connections")


def test_nats(files: Files) -> None:
    """NATS is ready with a password or TLS, and not ready if it is full."""
    with nats(files, "--user", "me", "--pass", "secret") as ports:
        assert ask("nats", ports["nats"]) == (0, PASSWORD)
    with nats(files, "--tls", "--tlscert", files.cert, "--tlskey", files.key) as ports:
        assert ask("nats", ports["nats"]) == (0, "ready: it wants TLS")
    (files.folder / "conf").write_text("max_connections: 1\n")
    with nats(files, "-c", str(files.folder / "conf")) as ports, connect(ports["nats"]) as only:
        only.recv(4096)
        assert ask("nats", ports["nats"]) == (8, "not ready: maximum connections exceeded")


def test_mosquitto(files: Files) -> None:
    """Mosquitto is ready if it requires a password."""
    with mosquitto(files) as ports:
        assert ask("mqtt", ports["closed"]) == (0, PASSWORD)


def test_postfix(files: Files) -> None:
    """Postfix is not ready if it refuses all clients."""
    with postfix(files, refusing="-o smtpd_client_restrictions=reject -o smtpd_delay_reject=no") as ports:
        code, detail = ask("smtp", ports["refusing"])
        assert code == 8 and detail.startswith("not ready: it refused the connection: 554 5.7.1 ")


def test_vsftpd(files: Files) -> None:
    """vsftpd is not ready if it is full."""
    with vsftpd(files, max_clients="1") as ports, connect(ports["ftp"]) as only:
        only.recv(4096)
        code, detail = ask("ftp", ports["ftp"])
        assert code == 8 and detail.startswith("not ready: it refused the connection: 421 There are too")


def test_sshd(files: Files) -> None:
    """sshd is not ready if it has MaxStartups clients without a login."""
    with openssh(files, "MaxStartups 1:100:1\n") as ports, connect(ports["ssh"]) as only:
        only.recv(4096)
        assert ask("ssh", ports["ssh"]) == (8, "not ready: Exceeded MaxStartups")


def test_nsd(files: Files) -> None:
    """NSD is not ready without the file of its zone."""
    with nsd(files, zone="") as ports:
        assert ask("dns", ports["dns"]) == (8, "not ready: SERVFAIL")


def test_dnsmasq() -> None:
    """dnsmasq without an upstream server is ready, and answers REFUSED."""
    with dnsmasq() as port:
        assert ask("dns", port) == (0, "ready: REFUSED")


def test_chronyd(files: Files) -> None:
    """chronyd is not ready without a source of time."""
    with chronyd(files, "") as ports:
        assert ask("ntp", ports["ntp"]) == (8, "not ready: its clock is not synchronized")


# -- databases

# Only user test needs no password; from the other address no user does, so that the role netkit is looked up.
HBA = f"host all test {HERE}/32 trust\nhost all all {OTHER}/32 trust\nhost all all {HERE}/32 scram-sha-256\n"
SLOTS = OFTEN + 5


def postgres_client(port: int) -> socket.socket:
    """Return a connection to PostgreSQL that has logged in, once one that ended before has left a place."""
    while True:
        client = connect(port)
        client.sendall(postgres_startup(b"test"))
        answer = b""
        while b"Z\0\0\0\x05I" not in answer and (data := client.recv(4096)):
            answer += data
        if data:
            return client
        client.close()
        assert b"too many clients" in answer


def test_postgres(files: Files, pki: Pki) -> None:
    """PostgreSQL is not ready while it starts or is full. As of pg_isready it only logs that the role is unknown."""
    log = files.folder / "data/log"
    settings = {"logging_collector": "on", "log_directory": log.parent, "log_filename": log.name}
    settings["log_checkpoints"] = "off"  # as a checkpoint may start at any time
    full = {"max_connections": SLOTS, "superuser_reserved_connections": 0, "max_wal_senders": 0}
    with postgresql(files, HBA, standby=True, **settings, **full) as ports:
        port = ports["postgres"]
        target = f"postgres://{HERE}:{port}"
        code, [detail] = asked(target)
        assert (code, detail[:31]) == (8, "not ready: the database system ")
        with running("portcheck", target, "--wait", "20s", "--interval", "20ms") as waiting:
            (log.parent / "promote").touch()
            os.kill(int((log.parent / "postmaster.pid").read_text().split()[0]), signal.SIGUSR1)
            assert waiting.finish().code == 0
        before = log.read_text()
        assert often(target) == (0, {"ready"})
        assert asked(target, "--starttls", "postgres", "--cafile", pki.ca)[1][0].startswith("ready, TLSv1.3, ")
        with from_other(port) as other:
            assert often(f"postgresql://{other}") == (0, {"ready"})
        while (logged := log.read_text()[len(before) :]).count("\n") < OFTEN:
            os.sched_yield()
        assert logged.count("\n") == logged.count('FATAL:  role "netkit" does not exist\n') == OFTEN
        with contextlib.ExitStack() as held:
            for _ in range(SLOTS):
                held.enter_context(postgres_client(port))
            assert asked(target) == (8, ["not ready: sorry, too many clients already"])


def test_mysql(files: Files, pki: Pki) -> None:
    """MySQL is ready after any number of probes, and not ready if it is full or has blocked the host."""
    log = files.folder / "data/log.err"
    options = {"log_error": log, "max_connect_errors": 5, "max_connections": 10}
    with mariadb(files, users=True, **options) as ports, from_other(ports["mysql"]) as other:
        port = ports["mysql"]
        assert often(f"mysql://{other}") == (0, {"ready"})
        code, [detail] = asked(f"mariadb://{HERE}:{port}", "--starttls", "mysql", "--cafile", pki.ca)
        assert (code, detail[:16]) == (0, "ready, TLSv1.3, ")
        logged = log.read_text()
        assert logged.count("Access denied for user 'netkit'@") == OFTEN + 1 and "Aborted" not in logged
        with contextlib.ExitStack() as held:
            found = 0, ["ready"]
            while found == (0, ["ready"]):  # until those that ended before have left their places
                while b"Too many connections" not in mysql_greeting(held.enter_context(connect(port))):
                    pass
                found = asked(f"mysql://{HERE}:{port}")
            assert found == (8, ["not ready: Too many connections"])
        try:
            socket.gethostbyaddr(OTHER)
        except socket.herror as error:
            if error.errno == TRY_AGAIN:
                pytest.skip("no resolver answers, and MariaDB counts errors of hosts alone of which one has told")
        blocked = False
        while not blocked:  # checks without a login lead to this
            with socket.create_connection((HERE, port), PATIENCE, (OTHER, 0)) as client:
                blocked = b"is blocked" in mysql_greeting(client)
        code, [detail] = asked(f"mysql://{other}")
        assert code == 8 and detail.startswith(f"not ready: Host '{OTHER}' is blocked because of many connection err")


def mysql_greeting(client: socket.socket) -> bytes:
    """Return the first packet from a MySQL server."""
    size = int.from_bytes(receive(client, 4)[:3], "little")
    return receive(client, size)


# -- directories

UNWILLING = "result 53 (unwillingToPerform)"


def test_ldap(files: Files, pki: Pki) -> None:
    """slapd is ready, also with TLS or if it requires a password. It logs the searches, and no errors."""
    with slapd(files) as ports:
        target = f"ldap://{HERE}:{ports['ldap']}"
        assert often(target) == (0, {"ready"})
        for words in ((f"ldaps://{HERE}:{ports['ldaps']}",), (target, "--starttls", "ldap")):
            code, [detail] = asked(*words, "--cafile", pki.ca)
            assert (code, detail[:16]) == (0, "ready, TLSv1.3, ")
        while (logged := (files.folder / "log").read_text()).count(" closed") < OFTEN + 2:
            os.sched_yield()
    done = re.findall(r"SEARCH RESULT tag=101 err=(\d+) .*nentries=(\d+) text=(.*)", logged)
    assert done == [("0", "1", "")] * (OFTEN + 2)
    assert logged.count(" UNBIND") == len(done) and "(connection lost)" not in logged
    with slapd(files, "require authc") as ports:
        assert asked(f"ldap://{HERE}:{ports['ldap']}") == (0, [f"ready: {UNWILLING} authentication required"])


# -- gRPC


def test_grpc(files: Files, pki: Pki) -> None:
    """A gRPC server, or a named service of it, is ready if its health service says SERVING."""
    if find_spec("grpc") is None:
        pytest.skip("grpcio is not installed")
    argv = [sys.executable, str(Path(__file__).parents[1] / "support/grpc_server.py"), files.cert, files.key]
    with running(argv=argv) as server:
        plain, secured, bare = (f"{HERE}:{port}" for port in server.out.readline().decode().split())
        states = {
            f"grpc://{plain}": (True, ""),
            f"grpc://{plain}/secret": (True, "it wants credentials"),
            f"grpc://{plain}/down": (False, "NOT_SERVING"),
            f"grpc://{plain}/unknown": (False, "UNKNOWN"),
            f"grpc://{plain}/other": (False, "it does not know the service other"),
            f"grpc://{bare}": (False, "it has no health service"),
        }
        done = netkit("portcheck", *states, "--json")
        lines = [json.loads(line) for line in done.out.splitlines()]
        assert {line["target"]: (line["ready"], line.get("reason", "")) for line in lines} == states
        assert done.code == 8
        code, [detail] = asked(f"grpcs://{secured}", "--cafile", pki.ca)
        assert (code, detail[:16]) == (0, "ready, TLSv1.3, ")
        assert server.finish() == Finished(0, b"", "")


# -- brokers


def test_kafka() -> None:
    """librdkafka's mock of a cluster is ready, and logs no error."""
    argv = [tool("kcat"), "-b", "unused", "-X", "test.mock.num.brokers=2", "-X", "debug=mock", "-C", "-t", "topic"]
    with running(argv=argv) as client:
        place = client.line(r"bootstrap.servers=(\S+),")[1]
        assert asked(f"kafka://{place}") == (0, ["ready"])
        client.line("Received MetadataRequestV1 from")
        assert not [line for line in client.said if "error" in line.lower()]


@pytest.mark.timeout(150)
def test_amqp(files: Files, pki: Pki) -> None:
    """RabbitMQ is ready, and only logs that a client closed the connection."""
    if "CI" not in os.environ:
        pytest.skip("RabbitMQ takes 7 s of CPU to start: it is left to CI")
    with rabbitmq(files) as ports:
        done = netkit("portcheck", f"amqp://{HERE}:{ports['amqp']}", "--wait", "100s", timeout=110)
        assert done.code == 0, done
        assert often(f"amqp://{HERE}:{ports['amqp']}") == (0, {"ready"})
        code, [detail] = asked(f"amqps://{HERE}:{ports['amqps']}", "--cafile", pki.ca, "--wait", "20s")
        assert (code, detail[:16]) == (0, "ready, TLSv1.3, ")
        log = files.folder / "data/log"
        while "Server startup complete" not in log.read_text():  # if it is stopped before that, it logs an error
            os.sched_yield()
    logged = log.read_text()
    assert logged.count("client unexpectedly closed TCP connection") == OFTEN + 2
    assert "[error]" not in logged
