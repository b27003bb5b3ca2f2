"""Two machines for the examples of documents: ``here`` runs them, and the other is db, cache, example.org and so on.

They are network namespaces joined by a veth pair, with their own /etc/hosts, /etc/resolv.conf, /dev and /run.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.binary import MYSQL_DENIED, mysql_error
from tests.support.certificates import Pki
from tests.support.forkserver import NETKIT
from tests.support.namespaces import Network, network
from tests.support.partners import NGINX, await_listener, login, sshd
from tests.support.processes import Running, running, tool
from tests.support.starttls import mysql_greeting

_ROOT = Path(__file__).parents[2]
_HERE = "10.9.0.1"
_HOSTS = {
    "127.0.0.1": "localhost",
    "::1": "localhost",
    _HERE: "here",
    "10.0.0.5": "db",
    "10.0.0.6": "cache",
    "10.0.0.8": "app",
    "10.0.0.9": "log mail ldap boot",
    "192.0.2.7": "host",
    "203.0.113.3": "time.example.org proxy.example",
    "203.0.113.4": "example.org",
    "203.0.113.5": "dns.example",
    "1.1.1.1": "one.one.one.one",
}
_CERTIFIED = ("localhost", "127.0.0.1", "here", "db", "host", "mail", "ldap", "example.org", "dns.example", "9.9.9.9")
_NEAR = """
mount -t tmpfs none /run
mkdir dev
ln -s /proc/self/fd dev/fd; ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr
for name in null zero full random urandom; do : >dev/$name; mount --bind /dev/$name dev/$name; done
mount --rbind dev /dev
for name in hosts resolv.conf ssh/ssh_config; do
    place=$(readlink -m /etc/$name)
    case $place in /run/*) mkdir -p ${place%/*}; : >$place ;; esac
    [ ! -e $place ] || mount --bind ${name#*/} $place
done
"""
_FAR = f"""
ip address add 10.9.0.2/32 dev wire
ip link set wire up
ip route add {_HERE} dev wire
ip route add default via {_HERE} dev wire
for each in 10.0.0.0/24 192.0.2.0/24 203.0.113.0/24 1.1.1.1 9.9.9.9; do ip route add local $each dev lo; done
"""
_SITE = (
    "user root root;"
    + NGINX
    + """
    log_format got '$request range=$http_range user=$remote_user encoding=$http_accept_encoding';
    server {{
        access_log /dev/stderr got;
        listen 80;
        listen 8080;
        listen 203.0.113.4:443 ssl;
        listen 192.0.2.7:443 ssl;
        listen 10.0.0.5:443 ssl;
        ssl_certificate {folder}/cert.pem;
        ssl_certificate_key {folder}/key.pem;
        root site;
        location = / {{ return 200 "hi from $host\\n"; }}
        location = /x {{ if ($request_method = POST) {{ return 200 "taken\\n"; }} dav_methods PUT; }}
        location = /health {{ return 200 '{{"status": "up"}}\\n'; }}
        location / {{ dav_methods PUT; }}
    }}
}}
"""
)
_ZONE = """
@ 3600 SOA ns root 1 2 3 4 5
@ 3600 NS ns
@ 3600 MX 10 mail
@ 3600 A 203.0.113.4
ns 3600 A 192.0.2.53
"""
_NSD = """
server:
    ip-address: 192.0.2.53
    username: ""
    zonesdir: "{folder}"
    database: ""
    pidfile: ""
    logfile: "{folder}/nsd.log"
    xfrdfile: "{folder}/xfrd"
    zonelistfile: "{folder}/zones"
    xfrdir: "{folder}"
remote-control:
    control-enable: no
zone:
    name: "example.org"
    zonefile: zone
"""
_DNSDIST = """
setSecurityPollSuffix("")
setLocal("9.9.9.9:53")
newServer("192.0.2.53:53"):setUp()
addTLSLocal("9.9.9.9:853", "{folder}/cert.pem", "{folder}/key.pem")
addDOHLocal("203.0.113.5:443", "{folder}/cert.pem", "{folder}/key.pem", "/dns-query")
"""
_SSH = """
User {user}
IdentityFile {folder}/client
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
LogLevel ERROR
"""
# PostgreSQL's AuthenticationOk and ReadyForQuery; see "Message Formats" in its manual.
_POSTGRES = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"


class _Service(NamedTuple):
    """The programs that it needs, its ports, and the line of shell that runs it and writes requests to stderr."""

    programs: str
    where: str
    line: str
    here: bool = False  # on the first machine, whose ports the examples use, too


def _each(address: str, does: str, *, here: bool = False) -> _Service:
    """A service that runs a shell line for each connection or datagram; in DOES, so that socat does not split it."""
    kind, rest = address.partition(",")[0].split(":")
    own = re.search(",bind=([0-9.]+)", address)  # another service may have the port at another address
    place = f"{own[1]}:{rest}" if own else rest
    where = f"{'tcp' if 'TCP' in kind else 'udp'}:{place}" if rest.isdigit() else f"unix:{rest}"
    return _Service("socat xxd", where, f"DOES={shlex.quote(does)} exec socat {address},reuseaddr,fork EXEC:does", here)


_HEAR = "cat >&2; echo >&2"
_ANSWER = "tee /dev/stderr; echo >&2"
_HTTP = r"""sed '/^.$/q' >&2; printf 'HTTP/1.0 200 OK\r\n\r\nup\n'"""
_SERVICES = {
    "web": _Service("nginx", "tcp:80 tcp:443 tcp:8080", "exec nginx -e stderr -p . -c nginx.conf"),
    "redis": _Service("redis-server", "tcp:6379", "exec redis-server --port 6379 --save '' --protected-mode no"),
    "nsd": _Service("nsd", "udp:192.0.2.53:53", "exec nsd -d -c nsd.conf"),
    "dns": _Service(
        "dnsdist", "tcp:9.9.9.9:853 tcp:203.0.113.5:443", "exec dnsdist -C dnsdist.conf --supervised --disable-syslog"
    ),
    "starttls": _Service("", "tcp:389", f"exec {sys.executable} -m tests.support.starttls_hosts cert.pem key.pem"),
    "proxy": _Service("ncat", "tcp:3128", "exec ncat -lk --proxy-type http 3128"),
    "ssh": _each("TCP4-LISTEN:22,bind=192.0.2.7", "exec socat - UNIX:ssh.sock,retry=9"),
    "db ssh": _each("TCP4-LISTEN:22,bind=10.0.0.5", "exec cat"),
    "postgres": _each("TCP4-LISTEN:5432,bind=10.0.0.5", f"cat postgres; {_HEAR}"),
    "mysql": _each("TCP4-LISTEN:3306,bind=10.0.0.5", f"cat mysql; {_HEAR}"),
    "smtp": _each("TCP4-LISTEN:25,bind=192.0.2.7", r"printf '220 mail\r\n'; head -n 1 | od -c >&2"),
    "telnet": _each("TCP4-LISTEN:23,bind=192.0.2.7", r"printf '\377\375\030login: '; head -c 3 | xxd -p >&2"),
    "time": _each("TCP4-LISTEN:37", r"printf '\353\265\246\360'"),
    "records": _each("TCP4-LISTEN:9001", r"printf '\0\2hi\0\3you'"),
    "sink": _each("TCP4-LISTEN:9000", "xxd -p >&2"),
    "host 5000": _each("UDP4-RECVFROM:5000,bind=192.0.2.7", _ANSWER),
    "db 5000": _each("UDP4-RECVFROM:5000,bind=10.0.0.5", _ANSWER),
    "host 53": _each("UDP4-RECVFROM:53,bind=192.0.2.7", _ANSWER),
    "syslog": _each("UDP4-RECVFROM:514", _HEAR),
    "bulk": _each("UDP4-RECVFROM:9000", _HEAR),
    "wake": _each("UDP4-RECVFROM:9", "xxd -p -c 0 >&2"),
    "tftp": _each(
        "UDP4-RECVFROM:69",
        r"cat >/dev/null; printf '\0\3\0\1x' | exec socat - UDP4:$SOCAT_PEERADDR:$SOCAT_PEERPORT",
    ),
    "ssdp": _each(
        "UDP4-RECVFROM:1900,ip-add-membership=239.255.255.250:10.9.0.2", r"cat >/dev/null; printf 'HTTP/1.1 200 OK\r\n'"
    ),
    "here 80": _each("TCP4-LISTEN:80", _HTTP, here=True),
    "here 8080": _each("TCP4-LISTEN:8080", _HTTP, here=True),
    "here app": _each("UNIX-LISTEN:/run/app.sock,unlink-early", _HTTP, here=True),
    "here 5000": _each("UDP4-RECVFROM:5000", "cat", here=True),
    "here 8125": _each("UDP4-RECVFROM:8125,bind=127.0.0.1", _HEAR, here=True),
    "here log": _each("UNIX-RECVFROM:/dev/log,unlink-early", _HEAR, here=True),
    "here notify": _each("ABSTRACT-RECVFROM:notify", _HEAR, here=True),
    "here socks": _Service("", "tcp:1080", "exec netkit proxy 1080", here=True),
}


class Services:
    """Both machines, and their services. ``pair`` is their certificate."""

    def __init__(self, near: Network, far: Network, folder: Path, pki: Pki, stack: contextlib.ExitStack) -> None:
        self.pair = pki.for_hosts(*_CERTIFIED)
        self._near, self._far, self._folder, self._stack = near, far, folder, stack
        path = os.pathsep.join((str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]))
        self._variables = [
            f"PATH={path}:/usr/sbin:/sbin",
            f"PYTHONPATH={_ROOT}",
            f"SSL_CERT_FILE={pki.ca}",
            f"CURL_CA_BUNDLE={pki.ca}",
        ]
        self._running: dict[str, Running] = {}

    def inside(self, folder: Path) -> list[str]:
        """The words that run a command on the first machine, in ``folder``."""
        nsenter, *options = self._near.inside
        return [nsenter, "--mount", f"--wd={folder}", *options, "env", *self._variables]

    @contextlib.contextmanager
    def serving(self, *names: str) -> Iterator[list[Running]]:
        """Start services, whose requests are in their stderr. Those of the first machine end with the block."""
        with contextlib.ExitStack() as here:
            for name in names:
                if _SERVICES[name].here:
                    self._running[name] = self._start(here, name)
                    here.callback(self._running.pop, name)
                elif name not in self._running:
                    self._running[name] = self._start(self._stack, name)
            for name in names:
                self._running[name].forget()
            yield [self._running[name] for name in names]

    def _start(self, stack: contextlib.ExitStack, name: str) -> Running:
        programs, where, line, here = _SERVICES[name]
        for program in programs.split():
            tool(program)
        if name == "ssh":  # runs outside, as it needs the real machine's users
            _, port = stack.enter_context(sshd(self._folder))
            (self._folder / "ssh_config").write_text(_SSH.format(user=login(), folder=self._folder))
            argv = [tool("socat"), f"UNIX-LISTEN:{self._folder}/ssh.sock,fork", f"TCP:127.0.0.1:{port}"]
            stack.enter_context(running(argv=argv))
        argv = [*self.inside(self._folder), *([] if here else ["there"]), "sh", "-c", line]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        server = stack.enter_context(running(argv=argv, start_new_session=True, **pipes))
        stack.callback(_end, server)
        for each in where.split():
            await_listener(each, server, (self._near if here else self._far).pid)
        return server


def _end(server: Running) -> None:
    """Kill a service and all processes that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)


@contextlib.contextmanager
def services(folder: Path, pki: Pki) -> Iterator[Services]:
    """Both machines, with files in ``folder``. netkit is on the PATH, and ``there`` runs a command on the second."""
    _write(folder)
    etc = f"cd {shlex.quote(str(folder))}\n{_NEAR}"
    with network(etc) as near, network(beside=near) as far, contextlib.ExitStack() as stack:
        near.do(
            f"ip link add wire type veth peer name wire netns {far.pid}\n"
            f"ip address add {_HERE}/32 dev wire; ip link set wire up; ip route add default dev wire"
        )
        far.do(_FAR)
        _script(folder, "there", f'exec nsenter --net=/proc/{far.pid}/ns/net "$@"')
        both = Services(near, far, folder, pki, stack)
        (folder / "cert.pem").symlink_to(both.pair.cert)
        (folder / "key.pem").symlink_to(both.pair.key)
        yield both


def _write(folder: Path) -> None:
    """Write the files of the services and of the machines."""
    for name, text in {
        "hosts": "".join(f"{address} {names}\n" for address, names in _HOSTS.items()),
        "resolv.conf": "nameserver 9.9.9.9\n",
        "ssh_config": "",
        "nginx.conf": _SITE.format(folder=folder),
        "nsd.conf": _NSD.format(folder=folder),
        "zone": _ZONE,
        "dnsdist.conf": _DNSDIST.format(folder=folder),
    }.items():
        (folder / name).write_text(text)
    (folder / "postgres").write_bytes(_POSTGRES)
    (folder / "mysql").write_bytes(mysql_greeting() + mysql_error(2, 1045, MYSQL_DENIED))
    site = folder / "site"
    site.mkdir()
    for name in ("big.iso", "a.iso", "b.iso", "version"):
        (site / name).write_text(f"this is {name}\n")
        os.utime(site / name, (0, 0))  # older than partial copies on the other machine
    (folder / "bin").mkdir()
    _script(folder, "netkit", f'exec {shlex.join(NETKIT)} "$@"')
    _script(folder, "does", 'eval "$DOES"')
    _script(folder, "prog", r"printf 'GET / HTTP/1.0\r\nHost: prog\r\n\r\n'; cat >page")


def _script(folder: Path, name: str, line: str) -> None:
    script = folder / "bin" / name
    script.write_text(f"#!/bin/sh\n{line}\n")
    script.chmod(0o755)
