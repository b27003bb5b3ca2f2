"""Real servers with STARTTLS, such as Postfix and PostgreSQL, each with its own configuration in a folder."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.certificates import Pki
from tests.support.partners import await_listener
from tests.support.peers import free_port
from tests.support.processes import PATIENCE, Running, running, tool

HERE = "127.0.0.1"


class Files(NamedTuple):
    """The files of a server: a folder that all users may enter, a certificate, and its key."""

    folder: Path
    cert: str
    key: str


@contextlib.contextmanager
def serving(files: Files, argv: list[str], *ports: int, user: str | None = None, **popen: Any) -> Iterator[Running]:
    """Run a server, yield it once it listens on ``ports``, and end it with all its processes.

    It runs in its folder, because inspircd dumps core there when it ends.
    """
    with running(argv=argv, user=user, cwd=files.folder, start_new_session=True, **popen) as server:
        try:
            for port in ports:
                await_listener(port, server)
            yield server
        finally:
            server.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.process.wait(PATIENCE)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)


def needs_root() -> None:
    """Skip the test unless we are root."""
    if os.geteuid():
        pytest.skip("needs root")


def a_user() -> str | None:
    """A user for servers that refuse to run as root; None if we are not root."""
    return None if os.geteuid() else "nobody"


def data_of(files: Files, user: str | None) -> Path:
    """Make a data folder for a server run as ``user``, who also becomes the owner of the key."""
    data = files.folder / "data"
    data.mkdir()
    if user:
        shutil.chown(data, user)
        shutil.chown(files.key, user)
    return data


@contextlib.contextmanager
def postfix(files: Files, **more: str) -> Iterator[dict[str, int]]:
    """Postfix, which needs root, with only the services for clients; ``more`` maps further ports to their options."""
    needs_root()
    options = {"smtp": "", **more}
    ports = {name: free_port() for name in options}
    services = "".join(f"{HERE}:{ports[name]} inet n - n - - smtpd {options[name]}\n" for name in ports)
    (files.folder / "main.cf").write_text(
        f"""
        compatibility_level = 3.6
        queue_directory = {files.folder}/queue
        data_directory = {files.folder}/data
        maillog_file = {files.folder}/log
        maillog_file_prefixes = /
        myhostname = mail.example
        smtpd_tls_security_level = encrypt
        smtpd_tls_chain_files = {files.key}, {files.cert}
        """.replace("\n        ", "\n")
    )
    (files.folder / "master.cf").write_text(
        services
        + """
        tlsmgr unix - - n 1000? 1 tlsmgr
        anvil unix - - n - 1 anvil
        rewrite unix - - n - - trivial-rewrite
        proxymap unix - - n - - proxymap
        postlog unix-dgram n - n - 1 postlogd
        """.replace("\n        ", "\n")
    )
    for name in ("data", "queue", "queue/pid", "queue/private", "queue/public"):
        (files.folder / name).mkdir()
        if name != "queue/pid":
            shutil.chown(files.folder / name, "postfix")
    with serving(files, [tool("/usr/lib/postfix/sbin/master"), "-c", str(files.folder), "-d"], *ports.values()):
        yield ports


@contextlib.contextmanager
def dovecot(files: Files) -> Iterator[dict[str, int]]:
    """Dovecot for IMAP, POP3, LMTP and ManageSieve."""
    needs_root()
    listeners = {
        "imap": "imap-login imap no",
        "imaps": "imap-login imaps yes",
        "pop3": "pop3-login pop3 no",
        "pop3s": "pop3-login pop3s yes",
        "lmtp": "lmtp lmtp no",
        "sieve": "managesieve-login sieve no",
    }
    ports = {name: free_port() for name in listeners}
    block = """
        service {} {{
          inet_listener {} {{
            ssl = {}
            address = {}
            port = {}
          }}
        }}
        """
    services = [block.format(*listeners[name].split(), HERE, port) for name, port in ports.items()]
    conf = files.folder / "dovecot.conf"
    conf.write_text(
        f"""
        protocols = imap pop3 lmtp sieve
        base_dir = {files.folder}/run
        state_dir = {files.folder}/state
        log_path = {files.folder}/log
        mail_location = maildir:/nonexistent
        ssl = required
        ssl_cert = <{files.cert}
        ssl_key = <{files.key}
        passdb {{
          driver = static
          args = password=test
        }}
        {"".join(services)}
        """
    )
    with serving(files, [tool("dovecot"), "-F", "-c", str(conf)], *ports.values()):
        yield ports


@contextlib.contextmanager
def vsftpd(files: Files, **more: str) -> Iterator[dict[str, int]]:
    """The FTP server vsftpd, with ``more`` settings."""
    port = free_port()
    empty = files.folder / "empty"
    empty.mkdir()
    conf = files.folder / "vsftpd.conf"
    settings = {
        "listen": "YES",
        "listen_address": HERE,
        "listen_port": port,
        "background": "NO",
        "run_as_launching_user": "YES",
        "seccomp_sandbox": "NO",
        "secure_chroot_dir": empty,
        "anonymous_enable": "YES",
        "anon_root": empty,
        "ssl_enable": "YES",
        "allow_anon_ssl": "YES",
        "ssl_ciphers": "HIGH",
        "rsa_cert_file": files.cert,
        "rsa_private_key_file": files.key,
        "xferlog_enable": "YES",
        "log_ftp_protocol": "YES",
        "vsftpd_log_file": files.folder / "log",
        **more,
    }
    conf.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    with serving(files, [tool("vsftpd"), str(conf)], port):
        yield {"ftps" if "implicit_ssl" in more else "ftp": port}


@contextlib.contextmanager
def slapd(files: Files, *settings: str) -> Iterator[dict[str, int]]:
    """OpenLDAP without a database: only the root DSE. Requests are in the file ``log``."""
    ports = {name: free_port() for name in ("ldap", "ldaps")}
    conf = files.folder / "slapd.conf"
    lines = (
        *(f"TLSCertificateFile {files.cert}", f"TLSCertificateKeyFile {files.key}"),
        *(f"pidfile {files.folder}/slapd.pid", f"logfile {files.folder}/log", "loglevel stats", *settings),
    )
    conf.write_text("".join(f"{line}\n" for line in lines))
    urls = " ".join(f"{name}://{HERE}:{port}" for name, port in ports.items())
    with serving(files, [tool("slapd"), "-h", urls, "-f", str(conf), "-d", "stats"], *ports.values()):
        yield ports


@contextlib.contextmanager
def prosody(files: Files) -> Iterator[dict[str, int]]:
    """An XMPP server."""
    port = free_port()
    conf = files.folder / "prosody.cfg.lua"
    conf.write_text(
        f"""
        run_as_root = true
        pidfile = "{files.folder}/prosody.pid"
        data_path = "{files.folder}"
        log = {{ {{ levels = {{ min = "error" }}, to = "console" }} }}
        interfaces = {{ "{HERE}" }}
        c2s_ports = {{ {port} }}
        modules_enabled = {{ "tls", "saslauth" }}
        modules_disabled = {{ "s2s" }}
        c2s_require_encryption = true
        ssl = {{ certificate = "{files.cert}", key = "{files.key}" }}
        VirtualHost "localhost"
        """
    )
    with serving(files, [tool("prosody"), "--config", str(conf), "-F"], port):
        yield {"xmpp": port}


@contextlib.contextmanager
def inspircd(files: Files) -> Iterator[dict[str, int]]:
    """An IRC server."""
    port = free_port()
    conf = files.folder / "inspircd.conf"
    conf.write_text(
        f"""
        <server name="irc.example" description="a test" network="Test">
        <admin name="nobody" nick="nobody" email="nobody@localhost">
        <path configdir="{files.folder}" datadir="{files.folder}" logdir="{files.folder}" runtimedir="{files.folder}">
        <pid file="{files.folder}/inspircd.pid">
        <module name="ssl_gnutls">
        <module name="starttls">
        <sslprofile name="tls" provider="gnutls" certfile="{files.cert}" keyfile="{files.key}">
        <starttls sslprofile="tls">
        <bind address="{HERE}" port="{port}" type="clients">
        <connect allow="*" resolvehostnames="no" useident="no">
        """
    )
    with serving(files, [tool("inspircd"), "--nofork", "--runasroot", "--config", str(conf)], port):
        yield {"irc": port}


@contextlib.contextmanager
def postgresql(files: Files, hba: str = "", *, standby: bool = False, **more: object) -> Iterator[dict[str, int]]:
    """PostgreSQL, which refuses to run as root. It trusts all users unless ``hba`` is given; ``more`` are settings.

    A standby accepts no clients until it is promoted.
    """
    port, user = free_port(), a_user()
    bins = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    if bins is None:
        pytest.skip("postgresql is not installed")
    data = data_of(files, user)
    argv = [str(bins / "initdb"), "-D", str(data), "-A", "trust", "-U", "test", "--no-sync", "--no-locale"]
    subprocess.run(argv, user=user, check=True, capture_output=True, timeout=2 * PATIENCE)
    if hba:
        (data / "pg_hba.conf").write_text(hba)
    if standby:
        (data / "standby.signal").touch()
    settings = {
        "port": port,
        "listen_addresses": HERE,
        "unix_socket_directories": "",
        "fsync": "off",
        "ssl": "on",
        "ssl_cert_file": files.cert,
        "ssl_key_file": files.key,
        **({"hot_standby": "off"} if standby else {}),
        **more,
    }
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with serving(files, [str(bins / "postgres"), "-D", str(data), *words], port, user=user):
        yield {"postgres": port}


@contextlib.contextmanager
def mariadb(files: Files, *, users: bool = False, **more: object) -> Iterator[dict[str, int]]:
    """MariaDB without system tables, or with those for ``users``; ``more`` are options."""
    port, user = free_port(), a_user()
    data = data_of(files, user)
    options = {
        "datadir": data,
        "bind-address": HERE,
        "port": port,
        "socket": files.folder / "data/socket",
        "pid-file": files.folder / "data/pid",
        "innodb": "OFF",
        "default-storage-engine": "Aria",
        "ssl-cert": files.cert,
        "ssl-key": files.key,
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    argv = [tool("mariadbd"), "--no-defaults", *(f"--{name}={value}" for name, value in options.items())]
    if users:
        _install(argv, user)
    else:
        argv.append("--skip-grant-tables")
    with serving(files, argv, port, user=user):
        yield {"mysql": port}


def _install(argv: list[str], user: str | None) -> None:
    """Make MariaDB's system tables, and one user."""
    folder = Path("/usr/share/mysql")
    tables = [folder / f"mysql_{name}.sql" for name in ("system_tables", "system_tables_data")]
    script = ["create database mysql;", "use mysql;", "set @auth_root_socket=NULL;", "set @skip_auth_anonymous=1;"]
    script += [each.read_text() for each in tables] + ["flush privileges;", "create user me@'%' identified by 'x';"]
    done = subprocess.run(
        [*argv, "--bootstrap"], input="\n".join(script).encode(), user=user, capture_output=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def rabbitmq(files: Files) -> Iterator[dict[str, int]]:
    """RabbitMQ, which may still be starting, and Erlang's epmd. Its log is in the folder ``data``."""
    needs_root()
    user = "rabbitmq"
    data = data_of(files, user)
    ports = {name: free_port() for name in ("amqp", "amqps", "epmd", "distribution")}
    conf = files.folder / "rabbitmq.conf"
    settings = {
        "listeners.tcp.1": f"{HERE}:{ports['amqp']}",
        "listeners.ssl.1": f"{HERE}:{ports['amqps']}",
        "ssl_options.certfile": files.cert,
        "ssl_options.keyfile": files.key,
        "log.dir": data,
        "log.file": "log",
    }
    conf.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    environment = {
        **os.environ,
        "HOME": str(data),
        "ERL_EPMD_ADDRESS": HERE,
        "ERL_EPMD_PORT": str(ports["epmd"]),
        "RABBITMQ_CONFIG_FILE": str(conf),
        "RABBITMQ_DIST_PORT": str(ports["distribution"]),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(data / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(data),
        "RABBITMQ_NODENAME": "test@localhost",
        "RABBITMQ_PID_FILE": str(data / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
    }
    server = [tool("/usr/lib/rabbitmq/bin/rabbitmq-server")]
    with (
        serving(files, [tool("epmd")], ports["epmd"], user=user, env=environment),
        serving(files, server, user=user, env=environment),
    ):
        yield {name: ports[name] for name in ("amqp", "amqps")}


SERVERS: dict[str, Callable[[Files], contextlib.AbstractContextManager[dict[str, int]]]] = {
    "smtp": postfix,
    **dict.fromkeys(("imap", "pop3", "lmtp", "sieve"), dovecot),
    "ftp": vsftpd,
    "ldap": slapd,
    "xmpp": prosody,
    "irc": inspircd,
    "postgres": postgresql,
    "mysql": mariadb,
}


@contextlib.contextmanager
def files_for(pki: Pki) -> Iterator[Files]:
    """A folder that all users may enter, with a certificate, and its key readable only by us."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        cert, key = shutil.copy(pki.good.cert, folder / "cert.pem"), shutil.copy(pki.good.key, folder / "key.pem")
        os.chmod(key, 0o600)
        yield Files(folder, str(cert), str(key))
