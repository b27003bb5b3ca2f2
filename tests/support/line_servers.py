"""Real servers for probes: caches, queues, SSH, DNS and NTP. Each writes its log to the folder that it is given."""

import contextlib
from collections.abc import Iterator

from tests.support.partners import bound, sshd
from tests.support.peers import exchange, free_port
from tests.support.processes import tool
from tests.support.starttls_servers import HERE, Files, serving


@contextlib.contextmanager
def redis(files: Files, *options: str) -> Iterator[dict[str, int]]:
    """Redis, in plain text and with TLS. Its data is in the folder, in data.rdb."""
    ports = {"redis": free_port(), "rediss": free_port()}
    argv = [tool("redis-server"), "--bind", HERE, "--port", str(ports["redis"]), "--tls-port", str(ports["rediss"])]
    argv += ["--tls-cert-file", files.cert, "--tls-key-file", files.key, "--tls-ca-cert-file", files.cert]
    argv += ["--tls-auth-clients", "no", "--save", "", "--dir", str(files.folder), "--dbfilename", "data.rdb"]
    with serving(files, [*argv, "--logfile", str(files.folder / "log"), *options], *ports.values()):
        yield ports


def command(port: int, *lines: str) -> bytes:
    """Send commands to a Redis server, and return its answers."""
    return exchange(port, "".join(f"{line}\r\n" for line in (*lines, "QUIT")).encode())


@contextlib.contextmanager
def memcached(files: Files, *options: str) -> Iterator[dict[str, int]]:
    """memcached, which has no log, but writes to stderr with -v."""
    port = free_port()
    with serving(files, [tool("memcached"), "-l", HERE, "-p", str(port), "-u", "root", *options], port):
        yield {"memcached": port}


@contextlib.contextmanager
def nats(files: Files, *options: str) -> Iterator[dict[str, int]]:
    """A NATS server."""
    port = free_port()
    argv = [tool("nats-server"), "-a", HERE, "-p", str(port), "-l", str(files.folder / "log"), *options]
    with serving(files, argv, port):
        yield {"nats": port}


@contextlib.contextmanager
def mosquitto(files: Files) -> Iterator[dict[str, int]]:
    """An MQTT broker that allows anonymous clients, in plain text and over TLS, but not at the port ``closed``."""
    ports = {name: free_port() for name in ("mqtt", "mqtts", "closed")}
    conf = files.folder / "mosquitto.conf"
    conf.write_text(
        f"user root\nper_listener_settings true\nlog_dest file {files.folder}/log\n"
        f"listener {ports['mqtt']} {HERE}\nallow_anonymous true\n"
        f"listener {ports['closed']} {HERE}\nallow_anonymous false\n"
        f"listener {ports['mqtts']} {HERE}\nallow_anonymous true\ncertfile {files.cert}\nkeyfile {files.key}\n"
    )
    with serving(files, [tool("mosquitto"), "-c", str(conf)], *ports.values()):
        yield ports


@contextlib.contextmanager
def openssh(files: Files, more: str = "") -> Iterator[dict[str, int]]:
    """sshd, whose log is written when it ends."""
    with sshd(files.folder, more) as (server, port):
        yield {"ssh": port}
        log = server.terminate().err
    (files.folder / "log").write_text(log)


@contextlib.contextmanager
def nsd(files: Files, zone: str = ". 3600 IN SOA a. b. 1 2 3 4 5\n. 3600 IN NS a.\n") -> Iterator[dict[str, int]]:
    """A name server for the root zone, whose zone file is missing if ``zone`` is empty."""
    port = free_port()
    conf = files.folder / "nsd.conf"
    if zone:
        (files.folder / "zone").write_text(zone)
    conf.write_text(
        f"""
        server:
            ip-address: {HERE}
            port: {port}
            username: ""
            zonesdir: "{files.folder}"
            database: ""
            pidfile: ""
            logfile: "{files.folder}/log"
            xfrdfile: "{files.folder}/xfrd"
            zonelistfile: "{files.folder}/zones"
            xfrdir: "{files.folder}"
        remote-control:
            control-enable: no
        zone:
            name: "."
            zonefile: zone
        """
    )
    with serving(files, [tool("nsd"), "-d", "-c", str(conf)], port):
        yield {"dns": port}


@contextlib.contextmanager
def chronyd(files: Files, more: str = "local stratum 10\n") -> Iterator[dict[str, int]]:
    """An NTP server that does not set the clock. By default it considers the local clock synchronized."""
    port = free_port()
    conf = files.folder / "chrony.conf"
    conf.write_text(f"port {port}\nbindaddress {HERE}\nallow\ncmdport 0\npidfile {files.folder}/pid\n{more}")
    argv = [tool("chronyd"), "-x", "-d", "-U", "-u", "root", "-l", str(files.folder / "log"), "-f", str(conf)]
    with bound(argv, port):
        yield {"ntp": port}
