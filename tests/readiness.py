"""``python -m tests.readiness [ROUNDS] [SERVER…]`` compares tools that wait until a server is ready.

In each round (default: 20) a server is started for each tool, together with the tool. Once the tool says that the
server is ready, the server's own client is run once. The table in Markdown has the number of times that this client
succeeded, and the median time after which the tool said ready. For comparison it has the time after which the client
first succeeds. Tools are netkit's probe, ``nc -z`` in a loop and, if installed, wait-for-it and wait4x.
"""

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from tests.benchmarks.measure import NETKIT
from tests.support.peers import free_port

HERE = "127.0.0.1"
_ROUNDS = 20
_INTERVAL = 0.05  # s between two attempts of netkit and of nc
_PATIENCE = 60.0  # s
_KEYS = 1_500_000  # that redis loads while it starts
_USER = "nobody" if os.geteuid() == 0 else None  # the user of servers that refuse to run as root


class Server(NamedTuple):
    """The command lines of a server and of its client, and the URL that netkit probes.

    The server is ended by ``ending``, which is SIGKILL if it can start again after that.
    """

    argv: Sequence[str]
    client: Sequence[str]
    probe: str
    user: str | None = None
    environment: Mapping[str, str] = MappingProxyType({})
    ending: signal.Signals = signal.SIGKILL


def postgres(folder: Path, port: int) -> Server:
    """PostgreSQL, which recovers from a crash at each start."""
    bins = max(Path("/usr/lib/postgresql").glob("*/bin"))
    data = folder / "data"
    if not data.exists():
        data.mkdir()
        if _USER:
            shutil.chown(data, _USER)
        make = [str(bins / "initdb"), "-D", str(data), "-A", "trust", "-U", "test", "--no-locale"]
        subprocess.run(make, user=_USER, check=True, capture_output=True)
    (data / "postmaster.pid").unlink(missing_ok=True)
    argv = [str(bins / "postgres"), "-D", str(data), "-p", str(port), "-h", HERE, "-k", ""]
    client = ["psql", "-h", HERE, "-p", str(port), "-U", "test", "-Atc", "select 1", "postgres"]
    return Server(argv, client, f"postgres://{HERE}:{port}", _USER, ending=signal.SIGQUIT)


def redis(folder: Path, port: int) -> Server:
    """Redis, which loads its data at the start."""
    argv = ["redis-server", "--port", str(port), "--bind", HERE, "--dir", str(folder), "--enable-debug-command", "yes"]
    client = ["redis-cli", "-e", "-p", str(port), "get", "key:1"]
    server = Server([*argv, "--save", ""], client, f"redis://{HERE}:{port}")
    if not (folder / "dump.rdb").exists():
        with started(server, folder):
            first_success(server)
            for words in (["debug", "populate", str(_KEYS)], ["save"]):
                subprocess.run(["redis-cli", "-e", "-p", str(port), *words], check=True, capture_output=True)
    return server


def mariadb(folder: Path, port: int) -> Server:
    """MariaDB, without users."""
    data = folder / "data"
    data.mkdir(exist_ok=True)
    if _USER:
        shutil.chown(data, _USER)
    options = (f"datadir={data}", f"bind-address={HERE}", f"port={port}", f"socket={data}/s", f"pid-file={data}/pid")
    argv = ["mariadbd", "--no-defaults", "--skip-grant-tables", "--skip-networking=0"]
    client = ["mariadb", "--no-defaults", "-h", HERE, "-P", str(port), "-e", "select 1"]
    words = [*argv, *(f"--{option}" for option in options)]
    return Server(words, client, f"mysql://{HERE}:{port}", _USER, ending=signal.SIGTERM)  # cannot start after SIGKILL


def rabbitmq(folder: Path, port: int) -> Server:
    """RabbitMQ, an AMQP broker that takes seconds to start."""
    if _USER:
        shutil.chown(folder, _USER)
    environment = {
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"readiness{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": HERE,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONF_ENV_FILE": "/nonexistent",
        "ERL_EPMD_ADDRESS": HERE,
    }
    client = ["amqp-declare-queue", "--server", HERE, "--port", str(port), "-q", "readiness"]
    return Server(["/usr/lib/rabbitmq/bin/rabbitmq-server"], client, f"amqp://{HERE}:{port}", _USER, environment)


def mosquitto(folder: Path, port: int) -> Server:
    """Mosquitto, an MQTT broker."""
    (folder / "conf").write_text(f"listener {port} {HERE}\nallow_anonymous true\nuser root\n")
    client = ["mosquitto_pub", "-h", HERE, "-p", str(port), "-t", "x", "-m", "y"]
    return Server(["mosquitto", "-c", str(folder / "conf")], client, f"mqtt://{HERE}:{port}")


def slapd(folder: Path, port: int) -> Server:
    """OpenLDAP without a database."""
    (folder / "conf").write_text(f"pidfile {folder}/pid\n")
    client = ["ldapsearch", "-x", "-H", f"ldap://{HERE}:{port}", "-s", "base", "-b", "", "1.1"]
    argv = ["slapd", "-h", f"ldap://{HERE}:{port}", "-f", str(folder / "conf"), "-d", "0"]
    return Server(argv, client, f"ldap://{HERE}:{port}")


SERVERS: dict[str, Callable[[Path, int], Server]] = {
    each.__name__: each for each in (postgres, redis, mariadb, rabbitmq, mosquitto, slapd)
}


def netkit(server: Server, port: int) -> list[str]:
    """netkit's probe."""
    return [*NETKIT, "portcheck", server.probe, "--wait", f"{_PATIENCE}", "--interval", f"{_INTERVAL}", "-q"]


def nc(server: Server, port: int) -> list[str]:
    """The common loop around ``nc -z``."""
    return ["timeout", f"{_PATIENCE}", "sh", "-c", f"until nc -z {HERE} {port}; do sleep {_INTERVAL}; done"]


def wait_for_it(server: Server, port: int) -> list[str]:
    """The script wait-for-it.sh, which sleeps a second between two attempts."""
    return ["wait-for-it", "-q", "-t", f"{_PATIENCE:.0f}", f"{HERE}:{port}"]


def wait4x(server: Server, port: int) -> list[str]:
    """wait4x, with a TCP check."""
    return ["wait4x", "-q", "tcp", f"{HERE}:{port}", "-t", f"{_PATIENCE:.0f}s", "-i", f"{_INTERVAL * 1000:.0f}ms"]


WAITERS = {"netkit": netkit, "nc -z": nc, "wait-for-it": wait_for_it, "wait4x": wait4x}


@contextlib.contextmanager
def started(server: Server, folder: Path) -> Iterator[None]:
    """Start a server, and end its process group after the block."""
    process = subprocess.Popen(
        server.argv,
        cwd=folder,
        env={**os.environ, **server.environment},
        user=server.user,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, server.ending)
        process.wait(_PATIENCE)


def succeeds(server: Server) -> bool:
    """Whether the server's own client succeeds."""
    return subprocess.run(server.client, capture_output=True).returncode == 0


def first_success(server: Server) -> float:
    """Run the server's own client until it succeeds, and return that time."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if succeeds(server):
            return time.monotonic()
    raise TimeoutError(server.argv[0])


def ready_after(server: Server, folder: Path) -> float:
    """Return the seconds from the start of a server until its client succeeds."""
    begun = time.monotonic()
    with started(server, folder):
        return first_success(server) - begun


def waited(server: Server, folder: Path, argv: Sequence[str]) -> tuple[bool, float]:
    """Return whether the client succeeds once a tool says ready, and the seconds from the start until it says so."""
    begun = time.monotonic()
    with started(server, folder):
        good = subprocess.run(argv, capture_output=True).returncode == 0  # each tool has its own timeout
        said = time.monotonic() - begun
        return good and succeeds(server), said


def main(rounds: int, names: Sequence[str]) -> None:
    """Measure, and print the table."""
    waiters = {name: make for name, make in WAITERS.items() if shutil.which(name.split()[0])} | {"netkit": netkit}
    print("| server | ready after | " + " | ".join(f"{name}: client succeeds, said after" for name in waiters) + " |")
    print("|---" * (len(waiters) + 2) + "|")
    for name in names or SERVERS:
        with tempfile.TemporaryDirectory(prefix="readiness-") as text:
            folder, port = Path(text), free_port()
            folder.chmod(0o755)
            server = SERVERS[name](folder, port)
            begun: list[float] = []
            found: dict[str, list[tuple[bool, float]]] = {waiter: [] for waiter in waiters}
            for number in range(rounds):
                begun.append(ready_after(SERVERS[name](folder, port), folder))
                for waiter, make in waiters.items():
                    found[waiter].append(waited(SERVERS[name](folder, port), folder, make(server, port)))
                print(f"{name}: round {number + 1} of {rounds}", file=sys.stderr)
            cells = [
                f"{sum(good for good, _ in each)} of {rounds}, {statistics.median(said for _, said in each):.2f} s"
                for each in found.values()
            ]
            print(f"| {name} | {statistics.median(begun):.2f} s | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else _ROUNDS, sys.argv[2:])
