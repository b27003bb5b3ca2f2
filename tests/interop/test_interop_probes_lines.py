"""Probes with real servers, ready and not ready, and what these log about them.

Some answers are hard to provoke: in protected mode, lame duck mode or a cluster that is down, during shutdown, and of
full mail servers. These are in tests/protocols/test_probes.py.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import pytest

from netkit.cli.layers import STARTTLS
from netkit.protocols.probes.table import PROBES
from tests.support import netkit
from tests.support.certificates import Pki
from tests.support.line_servers import chronyd, command, memcached, mosquitto, nats, nsd, openssh, redis
from tests.support.partners import dnsmasq
from tests.support.peers import connect
from tests.support.starttls_servers import HERE, Files, dovecot, files_for, postfix, vsftpd

# The number of probes of a server. An error of ours would be logged as often, and one of a port scan of this machine
# once.
ROUNDS = 6
PASSWORD = "ready: it wants a password"


@pytest.fixture
def files(pki: Pki) -> Iterator[Files]:
    """Provide the files of one server, in a folder."""
    with files_for(pki) as made:
        yield made


class Line(NamedTuple):
    """The exit code of portcheck, and the state and detail in its line."""

    code: int
    state: str
    detail: str


def ask(scheme: str, port: int, *options: str) -> Line:
    """Probe a server once."""
    done = netkit("portcheck", f"{scheme}://{HERE}:{port}", *options)
    [line] = done.out.decode().splitlines()
    return Line(done.code, *line.split("\t")[3::2])


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
        assert ask("redis", port) == (0, "open", PASSWORD)
        back = ("AUTH x", 'CONFIG SET requirepass ""')
        command(port, *back, "CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 1")
        found = ask("redis", port)
        assert found.code == 8 and found.detail.startswith("not ready: MASTERDOWN ")
        command(port, "REPLICAOF NO ONE", "CONFIG SET busy-reply-threshold 1")
        with connect(port) as script, connect(port) as watching:
            script.sendall(b'EVAL "while true do end" 0\r\n')
            answer = b""
            while not answer.startswith(b"-BUSY"):
                watching.sendall(b"PING\r\n")
                answer = watching.recv(4096)
            found = ask("redis", port)
            assert found.code == 8 and found.detail.startswith("not ready: BUSY ")
            watching.sendall(b"SCRIPT KILL\r\n")
            assert script.recv(4096).startswith(b"-ERR")
        with connect(port) as only:
            only.sendall(b"CONFIG SET maxclients 1\r\n")
            assert only.recv(4096) == b"+OK\r\n"
            assert ask("redis", port) == (8, "open", "not ready: ERR max number of clients reached")
    slowly = ("--key-load-delay", "100000", "--loading-process-events-interval-bytes", "1024")
    with redis(files, *slowly) as ports:
        port = ports["redis"]
        assert ask("redis", port) == (8, "open", "not ready: LOADING Redis is loading the dataset in memory")
        command(port, "CONFIG SET key-load-delay 0")
        assert ask("redis", port, "--wait", "20s", "--interval", "10ms") == (0, "open", "ready")


def test_memcached(files: Files) -> None:
    """memcached is ready with a password, and not ready if it is full."""
    passwords = files.folder / "passwords"
    passwords.write_text("me:secret\n")
    with memcached(files, "-Y", str(passwords)) as ports:
        assert ask("memcached", ports["memcached"]) == (0, "open", PASSWORD)
    with memcached(files, "-c", "24", "-t", "1") as ports, contextlib.ExitStack() as held:
        for _ in range(24):
            held.enter_context(connect(ports["memcached"]))
        found = ask("memcached", ports["memcached"])
        assert found == (8, "open", "not ready: ERROR Too many open connections")


def test_nats(files: Files) -> None:
    """NATS is ready with a password or TLS, and not ready if it is full."""
    with nats(files, "--user", "me", "--pass", "secret") as ports:
        assert ask("nats", ports["nats"]) == (0, "open", PASSWORD)
    with nats(files, "--tls", "--tlscert", files.cert, "--tlskey", files.key) as ports:
        assert ask("nats", ports["nats"]) == (0, "open", "ready: it wants TLS")
    (files.folder / "conf").write_text("max_connections: 1\n")
    with nats(files, "-c", str(files.folder / "conf")) as ports, connect(ports["nats"]) as only:
        only.recv(4096)
        assert ask("nats", ports["nats"]) == (8, "open", "not ready: maximum connections exceeded")


def test_mosquitto(files: Files) -> None:
    """Mosquitto is ready if it requires a password."""
    with mosquitto(files) as ports:
        assert ask("mqtt", ports["closed"]) == (0, "open", PASSWORD)


def test_postfix(files: Files) -> None:
    """Postfix is not ready if it refuses all clients."""
    with postfix(files, refusing="-o smtpd_client_restrictions=reject -o smtpd_delay_reject=no") as ports:
        found = ask("smtp", ports["refusing"])
        assert found.code == 8 and found.detail.startswith("not ready: it refused the connection: 554 5.7.1 ")


def test_vsftpd(files: Files) -> None:
    """vsftpd is not ready if it is full."""
    with vsftpd(files, max_clients="1") as ports, connect(ports["ftp"]) as only:
        only.recv(4096)
        found = ask("ftp", ports["ftp"])
        assert found.code == 8 and found.detail.startswith("not ready: it refused the connection: 421 There are too")


def test_sshd(files: Files) -> None:
    """sshd is not ready if it has MaxStartups clients without a login."""
    with openssh(files, "MaxStartups 1:100:1\n") as ports, connect(ports["ssh"]) as only:
        only.recv(4096)
        assert ask("ssh", ports["ssh"]) == (8, "open", "not ready: Exceeded MaxStartups")


def test_nsd(files: Files) -> None:
    """NSD is not ready without the file of its zone."""
    with nsd(files, zone="") as ports:
        assert ask("dns", ports["dns"]) == (8, "open", "not ready: SERVFAIL")


def test_dnsmasq() -> None:
    """dnsmasq without an upstream server is ready, and answers REFUSED."""
    with dnsmasq() as port:
        assert ask("dns", port) == (0, "open", "ready: REFUSED")


def test_chronyd(files: Files) -> None:
    """chronyd is not ready without a source of time."""
    with chronyd(files, "") as ports:
        assert ask("ntp", ports["ntp"]) == (8, "open", "not ready: its clock is not synchronized")
