"""``--starttls`` with real servers, compared with openssl's client, and in a relay for clients without TLS.

NNTP is missing, as Debian's INN cannot be installed on a machine without a domain: tests/protocols/test_starttls.py
has it.
"""

import ftplib
import imaplib
import json
import poplib
import re
import smtplib
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.support import netkit, running
from tests.support.certificates import Pki
from tests.support.processes import PATIENCE, tool
from tests.support.starttls import XMPP_HEADER
from tests.support.starttls_servers import HERE, SERVERS, files_for


@pytest.fixture(scope="module", params=dict.fromkeys(SERVERS.values()), ids=lambda server: server.__name__)
def ports(request: pytest.FixtureRequest, pki: Pki) -> Iterator[dict[str, int]]:
    """Run a server, and provide its ports by protocol."""
    with files_for(pki) as files, request.param(files) as found:
        yield {name: port for name, port in found.items() if name in SERVERS}


def test_what_openssl_sees(ports: dict[str, int], pki: Pki) -> None:
    """connect --json reports the same version, cipher and certificate as s_client."""
    for protocol, port in ports.items():
        words = ("--starttls", protocol, "--servername", "localhost", "--cafile", pki.ca)
        done = netkit("connect", f"{HERE}:{port}", *words, "--json", "-v", "--send-only", input=b"")
        events = [json.loads(line) for line in done.err.splitlines()]
        [secured] = [event for event in events if event["event"] == "secured"]
        argv = [tool("openssl"), "s_client", "-connect", f"{HERE}:{port}", "-starttls", protocol, "-CAfile", pki.ca]
        argv += ["-verify_return_error", "-servername", "localhost", "-xmpphost", "localhost", "-name", "localhost"]
        told = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE).stdout.decode()
        new = re.search(r"New, (\S+), Cipher is (\S+)", told)
        assert new is not None and "Verify return code: 0 (ok)" in told, told
        assert (secured["protocol"], secured["cipher"]) == new.groups()
        argv = [tool("openssl"), "x509", "-noout", "-startdate", "-enddate", "-dateopt", "iso_8601"]
        argv += ["-ext", "subjectAltName"]
        dates = subprocess.run(
            argv, input=told.encode(), capture_output=True, timeout=PATIENCE, check=True
        ).stdout.decode()
        not_before, not_after = (secured[name].replace("T", " ") for name in ("not_before", "not_after"))
        assert f"notBefore={not_before}\nnotAfter={not_after}\n" in dates
        names = re.findall(r"(?:DNS|IP Address):([^,\s]+)", dates)
        assert secured["names"] == [name.replace("0:0:0:0:0:0:0:1", "::1") for name in names]


def test_portcheck_finds_it_good(ports: dict[str, int], pki: Pki) -> None:
    """portcheck verifies the server's certificate; with another CA it is 60."""
    for protocol, port in ports.items():
        words = ("portcheck", f"localhost:{port}", "--starttls", protocol)
        done = netkit(*words, "--cafile", pki.ca, "--expires", "24h")
        assert done.code == 0 and re.search(rb"TLSv1\.3, .*, ends \d", done.out), done
        assert netkit(*words, "--cafile", pki.other_ca).code == 60


def test_a_plain_client_reaches_it(ports: dict[str, int], pki: Pki) -> None:
    """A client without TLS can use the server through a relay with --starttls."""
    for protocol in ports.keys() & CLIENTS.keys():
        words = ("--starttls", protocol, "--servername", "localhost", "--cafile", pki.ca)
        with running("relay", f"{HERE}:0", f"{HERE}:{ports[protocol]}", *words) as relay:
            CLIENTS[protocol](relay.port)


def _smtp(port: int) -> None:
    with smtplib.SMTP(HERE, port, "client.example", PATIENCE) as client:
        assert client.noop()[0] == 250  # the server requires TLS for all commands but EHLO and QUIT
        assert not client.has_extn("starttls")
        client.mail("a@client.example")


def _lmtp(port: int) -> None:
    with smtplib.LMTP(HERE, port, "client.example") as client:
        assert client.ehlo()[0] == 250 and not client.has_extn("starttls")


def _imap(port: int) -> None:
    with imaplib.IMAP4(HERE, port, PATIENCE) as client:
        assert "STARTTLS" not in client.capabilities and "LOGINDISABLED" not in client.capabilities
        assert client.noop()[0] == "OK"


def _pop3(port: int) -> None:
    client = poplib.POP3(HERE, port, PATIENCE)
    assert "STLS" not in client.capa()
    assert client.quit().startswith(b"+OK")


def _ftp(port: int) -> None:
    with ftplib.FTP(timeout=PATIENCE) as client:
        client.connect(HERE, port)
        assert client.login().startswith("230")
        assert client.sendcmd("NOOP").startswith("200")


def _says(request: bytes, answer: bytes) -> Callable[[int], None]:
    """Return a client that sends ``request``, and reads until ``answer``."""

    def talk(port: int) -> None:
        with socket.create_connection((HERE, port), PATIENCE) as sock:
            sock.sendall(request)
            came = b""
            while answer not in came:
                data = sock.recv(65536)
                assert data, came
                came += data

    return talk


def _ldap(port: int) -> None:
    search = ("-b", "", "-s", "base", "-LLL", "supportedExtension")
    argv = [tool("ldapsearch"), "-x", "-H", f"ldap://{HERE}:{port}", *search]
    done = subprocess.run(argv, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0 and b"supportedExtension: 1.3.6.1.4.1.1466.20037" in done.stdout, done


def _postgres(port: int) -> None:
    query = "select ssl, version from pg_stat_ssl where pid = pg_backend_pid()"
    where = f"host={HERE} port={port} user=test dbname=postgres sslmode=disable"
    done = subprocess.run([tool("psql"), where, "-Atc", query], capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, b"t|TLSv1.3\n"), done


CLIENTS: dict[str, Callable[[int], None]] = {
    "smtp": _smtp,
    "lmtp": _lmtp,
    "imap": _imap,
    "pop3": _pop3,
    "ftp": _ftp,
    "ldap": _ldap,
    "postgres": _postgres,
    "sieve": _says(b"LOGOUT\r\n", b'OK "Logout completed."\r\n'),
    "xmpp": _says(XMPP_HEADER % b"localhost", b"<mechanism>PLAIN</mechanism>"),
    "irc": _says(b"NICK me\r\nUSER me 0 * :me\r\n", b" 001 me "),
}
