"""Listening and serving: addresses, limits and timeouts, and that no client can stop the server."""

import contextlib
import errno
import itertools
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netkit.core import kernel
from netkit.core import tcp_server as listening
from netkit.core.address import Endpoint
from netkit.core.connection import DRAIN, Ended, serve_connection
from netkit.core.errors import Exit, Failure
from netkit.core.events import Accepted, Closed, Denied, Paused
from netkit.core.kernel import Group, checkpoint, now, readable, sleep
from netkit.core.socket_stream import SocketStream
from netkit.core.tcp_server import Listener, listen
from tests.clock import PatientClock, run
from tests.support import PATIENCE, reset
from tests.support.namespaces import separate
from tests.support.peers import resent
from tests.support.servers import BARE, Client, Server, echo, hold, serving

HERE = "127.0.0.1"


def refuses(listener: Listener) -> bool:
    """Whether the listener's addresses refuse connections."""
    refused = []
    for endpoint in listener.endpoints:
        try:
            socket.create_connection((endpoint.host, endpoint.port), PATIENCE).close()
            refused.append(False)
        except ConnectionRefusedError:
            refused.append(True)
    return all(refused)


# -- serving


@pytest.mark.ipv6
def test_clients_are_served_side_by_side_and_one_after_another() -> None:
    """A client that sends nothing does not keep others from being served."""

    async def script(server: Server) -> None:
        with Client(server.listener) as idle, Client(server.listener, 1) as busy:
            assert await busy.exchange(b"now") == b"now"
            assert await idle.exchange(b"later") == b"later"
        server.stop.set()

    server = serving(script)
    assert len(server.seen(Accepted)) == len(server.seen(Closed)) == 2
    assert {event.peer.host for event in server.seen(Accepted)} == {HERE, "::1"}


def test_after_the_last_of_so_many_clients_the_listener_closes_and_the_server_ends_with_them() -> None:
    """At the limit the listener closes at once, and the clients accepted so far are served until they end."""

    async def script(server: Server) -> None:
        with Client(server.listener) as one, Client(server.listener) as two:
            assert await one.exchange(b"1") == b"1"
            assert await two.exchange(b"2") == b"2"
            assert refuses(server.listener)
            await sleep(3600)
            assert server.ended_at is None
            assert await two.exchange(b"still served") == b"still served"

    server = serving(script, limit=2)
    assert server.failure is None
    assert server.ended_at is not None and server.ended_at >= 3600


@pytest.mark.ipv6
def test_a_client_too_many_is_never_swallowed() -> None:
    """Of clients that connect at the same moment only as many as the limit are served; the others are reset."""

    async def script(server: Server) -> None:
        clients = [Client(server.listener, number % 2) for number in range(6)]
        served = []
        for client in clients:
            try:
                client.socket.sendall(b"x")
                served.append(await client.receive() == b"x")
            except ConnectionError:
                served.append(False)
        assert served.count(True) == 1
        for client in clients:
            client.socket.close()

    server = serving(script, limit=1)
    assert server.failure is None
    assert len(server.seen(Accepted)) == len(server.seen(Closed)) == 1


@pytest.mark.parametrize(
    ("come_at", "limit", "ended_at"),
    [
        pytest.param([], None, 30, id="nobody"),
        pytest.param([], 1, 30, id="nobody of one"),
        pytest.param([20], 2, 50, id="one of two"),
        pytest.param([29, 58, 60], 4, 90, id="three of four"),
    ],
)
def test_a_client_that_is_wanted_does_not_come_in_time(come_at: list[int], limit: int | None, ended_at: int) -> None:
    """Without a limit the first is wanted, else as many; the timeout begins again after each.

    The server closes its listener and fails with TIMEOUT, naming the option.
    """

    async def script(server: Server) -> None:
        for moment in come_at:
            await sleep(moment - now())
            with Client(server.listener) as client:
                assert await client.exchange(b"x") == b"x"

    server = serving(script, limit=limit, accept_timeout=30.0)
    assert server.ended_at == ended_at
    assert server.failure is not None
    assert server.failure.exit is Exit.TIMEOUT
    assert "nobody came within 30 s (--accept-timeout)" in str(server.failure)
    assert refuses(server.listener)


def test_the_accept_timeout_ends_with_the_first_client() -> None:
    """After the first client the accept timeout no longer applies."""

    async def script(server: Server) -> None:
        with Client(server.listener) as client:
            assert await client.exchange(b"x") == b"x"
        await sleep(3600)
        assert server.ended_at is None
        server.stop.set()

    assert serving(script, accept_timeout=30.0).failure is None


def test_stopping_refuses_new_clients_at_once_and_lets_the_open_ones_end() -> None:
    """A client that ends within the drain time gets its answer, and the server ends with it."""

    async def script(server: Server) -> None:
        with Client(server.listener) as client:
            assert await client.exchange(b"x") == b"x"
            server.stop.set()
            await sleep(0.5)
            assert refuses(server.listener)
            client.socket.sendall(b"last words")
            client.socket.shutdown(socket.SHUT_WR)
            assert await client.receive() == b"last words"
            assert not await client.was_reset()

    server = serving(script)
    assert server.failure is None
    assert server.ended_at is not None and 0.5 <= server.ended_at < DRAIN


def test_who_has_not_ended_after_the_drain_is_reset() -> None:
    """Clients that are still connected after the drain time are reset, so that they do not see a clean end."""

    async def script(server: Server) -> None:
        with Client(server.listener) as client:
            await sleep(10)
            server.stop.set()
            assert await client.was_reset()

    server = serving(script, hold)
    assert server.failure is None
    assert server.ended_at == 10 + DRAIN
    assert [event.reason for event in server.seen(Closed)] == ["cut short"]


def test_stopping_without_clients_ends_at_once() -> None:
    """Without clients the server does not wait for the drain time."""

    async def script(server: Server) -> None:
        await sleep(5)
        server.stop.set()

    assert serving(script).ended_at == 5


def test_what_one_client_does_ends_no_other_and_not_the_server() -> None:
    """A client that resets its connection is reported, and affects neither other clients nor the server."""

    async def script(server: Server) -> None:
        with Client(server.listener) as good:
            for _ in range(5):
                bad = Client(server.listener)
                assert await bad.exchange(b"x") == b"x"
                reset(bad.socket)
            assert await good.exchange(b"fine") == b"fine"
        server.stop.set()

    server = serving(script)
    assert server.failure is None
    reasons = [event.reason for event in server.seen(Closed)]
    assert len(reasons) == 6
    assert sum("connection reset by peer" in reason for reason in reasons) == 5


@pytest.mark.ipv6
def test_a_client_that_reset_before_it_was_accepted_is_nothing() -> None:
    """A connection that was reset before it was accepted is ignored."""

    async def script(server: Server) -> None:
        for number in range(4):
            reset(Client(server.listener, number % 2).socket)
        with Client(server.listener) as client:
            assert await client.exchange(b"x") == b"x"
        server.stop.set()

    assert serving(script).failure is None


def test_no_more_than_so_many_are_served_at_the_same_time() -> None:
    """The next client waits in the backlog until another one leaves."""

    async def script(server: Server) -> None:
        with Client(server.listener) as one, Client(server.listener) as two, Client(server.listener) as waiting:
            assert await one.exchange(b"1") == b"1"
            assert await two.exchange(b"2") == b"2"
            waiting.socket.sendall(b"3")
            await sleep(2)
            assert len(server.seen(Accepted)) == 2
            left_at = now()
            one.socket.close()
            assert await waiting.receive() == b"3"
            assert now() == left_at  # at once, without polling
        server.stop.set()

    serving(script, max_conns=2)


@pytest.mark.ipv6
def test_limits_hold_also_for_clients_who_come_at_the_same_moment_over_both_families() -> None:
    """Of two clients that wait on different sockets one is served at a time."""

    async def script(server: Server) -> None:
        with Client(server.listener, 0), Client(server.listener, 1):
            await sleep(1)
            assert len(server.seen(Accepted)) == 1
        await sleep(1)
        assert len(server.seen(Accepted)) == 2
        server.stop.set()

    serving(script, max_conns=1)


def test_a_burst_of_clients_is_accepted_in_few_turns_and_the_others_get_theirs() -> None:
    """All waiting clients are accepted, up to 64 from a socket before other tasks run."""
    burst = 150

    async def script(server: Server) -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(burst):
                stack.enter_context(Client(server.listener))
            taken = [0]
            while taken[-1] < burst:
                await checkpoint()
                taken.append(len(server.seen(Accepted)))
            steps = [after - before for before, after in itertools.pairwise(taken)]
            assert [step for step in steps if step] == [64, 64, 22]
        server.stop.set()

    serving(script)


def test_a_handler_decides_how_a_connection_is_told_to_have_ended() -> None:
    """What the handler returns or raises is reported as the reason; the client sees an end or a reset."""
    told: list[Closed] = []

    async def good(stream: SocketStream) -> Ended:
        await stream.send(b"fine")
        return Ended("as agreed")

    async def bad(stream: SocketStream) -> None:
        raise Failure(Exit.RECV, "go on", "no")

    async def main() -> None:
        for handler in (good, bad):
            with socket.create_server((HERE, 0)) as server:
                one, other = socket.create_connection(server.getsockname()), server.accept()[0]
            with one:
                try:
                    await serve_connection(SocketStream(other, "client"), handler, told.append)
                    assert one.recv(100) == b"fine"
                    assert one.recv(100) == b""
                except Failure:
                    with pytest.raises(ConnectionResetError):
                        one.recv(100)

    run(main())
    assert [event.reason for event in told] == ["as agreed", "cannot go on: no"]


def test_serving_leaves_no_descriptor_open() -> None:
    """However a client leaves, its descriptor is closed, and the listeners' in the end."""

    async def script(server: Server) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            with Client(server.listener) as client:
                assert await client.exchange(b"x") == b"x"
            reset(Client(server.listener).socket)
        await sleep(1)
        assert len(os.listdir("/proc/self/fd")) == before
        server.stop.set()

    before = os.listdir("/proc/self/fd")
    serving(script)
    assert os.listdir("/proc/self/fd") == before


# -- ports and families


def bound(endpoint: Endpoint, **options: Any) -> list[str]:
    """Listen, and return the addresses."""

    async def main() -> list[str]:
        listener = await listen(endpoint, observe=print, **options)
        try:
            assert listener.port == listener.endpoints[0].port
            for sock in listener.sockets:
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
            return [str(endpoint) for endpoint in listener.endpoints]
        finally:
            listener.close()
            listener.close()

    return run(main())


@pytest.mark.ipv6
@pytest.mark.fault("both families")
@pytest.mark.parametrize(
    ("host", "family", "expected"),
    [
        pytest.param(None, 0, [HERE, "[::1]"], id="bare port"),
        pytest.param("", 0, ["0.0.0.0", "[::]"], id="every interface"),
        pytest.param(None, socket.AF_INET, [HERE], id="IPv4 alone"),
        pytest.param("", socket.AF_INET6, ["[::]"], id="IPv6 alone"),
        pytest.param("127.0.0.2", 0, ["127.0.0.2"], id="an address"),
        pytest.param("::1", 0, ["[::1]"], id="an IPv6 address"),
    ],
)
def test_one_port_number_for_all_families(host: str | None, family: int, expected: list[str]) -> None:
    """Port 0 becomes the same free port on all addresses."""
    hosts, ports = zip(*(address.rsplit(":", 1) for address in bound(Endpoint(host, 0), family=family)), strict=True)
    assert list(hosts) == expected
    assert len(set(ports)) == 1
    assert int(ports[0]) > 0


@pytest.mark.ipv6
def test_a_number_that_is_taken_on_one_family_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the port that was chosen for IPv4 is taken on IPv6, another is tried, and no socket is left open."""
    real = listening.listen_tcp
    refusals = iter(range(3))

    def taken_at_first(family: int, sockaddr: tuple[object, ...]) -> socket.socket:
        if family == socket.AF_INET6 and next(refusals, None) is not None:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        return real(family, sockaddr)

    monkeypatch.setattr(listening, "listen_tcp", taken_at_first)
    four, six = bound(BARE)
    assert four.rsplit(":", 1)[1] == six.rsplit(":", 1)[1]


def test_a_machine_without_ipv6_listens_on_ipv4_alone(tmp_path: Path) -> None:
    """A missing IPv6 is no failure for a port or a name of both families, but is one if IPv6 was asked for.

    Containers often have no IPv6 and yet a ``localhost`` of both families.
    """
    script = """
from netkit.core.address import Endpoint
from netkit.core.errors import Failure
from netkit.core.kernel import readable, run
from netkit.core.tcp_server import listen

async def main():
    for host in (None, "", "localhost", "::1"):
        try:
            listener = await listen(Endpoint(host, 0), observe=lambda event: None)
            print(*(e.host for e in listener.endpoints))
            listener.close()
        except Failure as failure:
            print(int(failure.exit))

run(main())
"""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n::1 localhost\n")
    ipv4 = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6"
    done = subprocess.run(
        [*separate(ipv4, "ip link set lo up", f"mount --bind '{hosts}' /etc/hosts"), sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stderr == ""
    bare, every, name, literal = done.stdout.splitlines()
    assert bare == HERE
    assert every.split()[0] == "0.0.0.0"  # the IPv6 wildcard can be bound even without IPv6
    assert name == HERE
    assert literal == str(int(Exit.BIND))


@pytest.mark.ipv6
def test_a_port_that_is_taken_cannot_be_bound_and_nothing_is_left_listening() -> None:
    """If the port is taken on either family, listening fails with BIND, and the message names address and port."""
    for host in (HERE, "::1"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, 0), family=family) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(Failure) as caught:
                bound(Endpoint(None, port))
            assert caught.value.exit is Exit.BIND
            assert str(caught.value) == f"cannot listen on {Endpoint(host, port)}: address already in use"
            for other in {HERE, "::1"} - {host}:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection((other, port))


def test_a_restart_goes_through_over_connections_that_linger() -> None:
    """A server can listen at once on a port that has connections in TIME_WAIT."""

    async def script(server: Server) -> None:
        with Client(server.listener) as client:
            assert await client.receive() == b""
            client.socket.shutdown(socket.SHUT_WR)
            server.stop.set()
            while server.ended_at is None:
                await sleep(0.01)

    async def close_first(stream: SocketStream) -> None:
        await stream.send_eof()
        await stream.recv()

    port = serving(script, close_first, endpoint=Endpoint(HERE, 0)).listener.endpoints[0].port
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()]
    assert {row[3] for row in rows if row[1] == f"0100007F:{port:04X}"} == {"06"}  # TIME_WAIT
    assert bound(Endpoint(HERE, port)) == [f"{HERE}:{port}"]


def test_an_address_that_is_not_ours_cannot_be_bound() -> None:
    """An address of another machine fails with BIND, and the message names address and reason."""
    with pytest.raises(Failure) as caught:
        bound(Endpoint("192.0.2.1", 0))
    assert caught.value.exit is Exit.BIND
    assert str(caught.value) == "cannot listen on 192.0.2.1:0: cannot assign requested address"


def test_a_full_backlog_of_clients_is_taken() -> None:
    """The backlog has room for hundreds of clients at once; no SYN has to be sent again."""

    async def main() -> None:
        listener = await listen(Endpoint(HERE, 0), observe=print)
        clients = []
        for _ in range(200):
            client = socket.socket()
            client.connect((HERE, listener.port))
            assert not resent(client)
            clients.append(client)
        for client in clients:
            client.close()
        listener.close()

    run(main())


# -- failures of accept(2)

TRANSIENT = [
    errno.EAGAIN,
    errno.ECONNABORTED,
    errno.EPERM,
    errno.EPROTO,
    errno.ENETDOWN,
    errno.ENOPROTOOPT,
    errno.EHOSTDOWN,
    errno.ENONET,
    errno.EHOSTUNREACH,
    errno.EOPNOTSUPP,
    errno.ENETUNREACH,
]
FULL = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM]


class Troubled(socket.socket):
    """A listening socket whose ``accept`` fails a few times before it succeeds."""

    troubles: list[int]

    def accept(self) -> Any:
        if self.troubles:
            code = self.troubles.pop()
            raise OSError(code, os.strerror(code))
        return super().accept()


@pytest.mark.parametrize("code", [*TRANSIENT, *FULL], ids=lambda code: errno.errorcode[code])
def test_what_goes_wrong_with_one_connection_does_not_end_the_listener(code: int) -> None:
    """Network errors of a single client, which accept(2) returns, are ignored; a full system is reported once."""
    events: list[Any] = []

    async def main() -> str:
        with socket.create_server((HERE, 0)) as plain:
            troubled = Troubled(fileno=plain.detach())
        troubled.setblocking(False)
        troubled.troubles = [code, code]
        listener = Listener([troubled])
        with Client(listener) as client:
            stream = None
            while stream is None:
                await readable(troubled.fileno())
                stream = await listener.accept(troubled, events.append)
            await stream.send(b"welcome")
            assert await client.receive() == b"welcome"
            stream.close()
        listener.close()
        return stream.name

    assert run(main(), PatientClock()).startswith(f"{HERE}:")
    assert [type(event) for event in events] == ([Paused] if code in FULL else [])


@pytest.mark.fault("no descriptor to accept with")
def test_running_out_of_descriptors_slows_down_and_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system is full a server reports it once, does not spin, and accepts again when a client leaves."""
    real = listening.listen_tcp
    many = [errno.EMFILE] * 1000

    def troubled(family: int, sockaddr: tuple[object, ...]) -> socket.socket:
        sock = Troubled(fileno=real(family, sockaddr).detach())
        sock.setblocking(False)
        sock.troubles = []
        return sock

    async def script(server: Server) -> None:
        (sock,) = server.listener.sockets
        assert isinstance(sock, Troubled)
        with Client(server.listener) as client:
            assert await client.exchange(b"x") == b"x"
            sock.troubles = many.copy()
            with Client(server.listener) as waiting:
                waiting.socket.sendall(b"y")
                await sleep(5)
                assert len(many) - 30 < len(sock.troubles) < len(many)
                sock.troubles = []
                left_at = now()
                client.socket.close()
                assert await waiting.receive() == b"y"
                assert now() == left_at
        server.stop.set()

    monkeypatch.setattr(listening, "listen_tcp", troubled)
    server = serving(script, endpoint=Endpoint(HERE, 0))
    assert [event.cause for event in server.seen(Paused)] == ["too many open files"]


# -- unix sockets


@contextlib.contextmanager
def listener_at(path: Path | str) -> Iterator[Listener]:
    """A listener on a unix socket, used outside of a kernel."""

    async def main() -> Listener:
        return await listen(Endpoint(path=str(path)), observe=print)

    listener = run(main())
    try:
        yield listener
    finally:
        listener.close()


def bind_failure(path: Path | str) -> Failure:
    """Return the failure to listen, after checking that it is BIND."""
    with pytest.raises(Failure) as caught, listener_at(path):
        pass
    assert caught.value.exit is Exit.BIND
    assert str(caught.value).startswith(f"cannot listen on unix:{path}: ")
    return caught.value


def test_a_socket_file_is_the_owners_alone_and_is_removed_at_the_end(tmp_path: Path) -> None:
    """The mode is 0600 whatever the umask, which is not changed, and the file is removed at the end."""
    path = tmp_path / "socket"
    before = os.umask(0)
    try:
        with listener_at(path) as listener:
            status = path.lstat()
            assert stat.S_ISSOCK(status.st_mode)
            assert stat.S_IMODE(status.st_mode) == 0o600
            assert listener.port is None
            assert str(listener.endpoints[0]) == f"unix:{path}"
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert not path.exists()


def test_clients_of_a_socket_file_are_served(tmp_path: Path) -> None:
    """Clients of a unix socket are served as those of TCP."""

    async def script(server: Server) -> None:
        with Client(server.listener) as client:
            assert await client.exchange(b"x") == b"x"
        server.stop.set()

    path = tmp_path / "socket"
    server = serving(script, endpoint=Endpoint(path=str(path)))
    assert [str(event.peer) for event in server.seen(Accepted)] == [f"unix:{path}"]
    assert not path.exists()


def test_a_socket_file_left_by_a_killed_server_is_replaced(tmp_path: Path) -> None:
    """A socket file on which nobody listens is replaced, and the new one has mode 0600."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
        killed.listen()
    stale = path.lstat()
    assert stat.S_IMODE(stale.st_mode) != 0o600
    with listener_at(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert not path.exists()


def test_a_path_that_is_served_is_refused_and_its_server_notices_nothing(tmp_path: Path) -> None:
    """The second server fails with BIND, and its check does not show up as a client of the first."""
    path = tmp_path / "socket"
    with listener_at(path) as first:
        before = path.lstat()
        assert bind_failure(path).errno == errno.EADDRINUSE
        assert path.lstat().st_ino == before.st_ino
        with pytest.raises(BlockingIOError):
            first.sockets[0].accept()


def test_a_path_that_is_bound_but_not_served_yet_is_not_taken_away(tmp_path: Path) -> None:
    """A socket that is bound but does not listen yet may belong to a server that starts, and is kept."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as starting:
        starting.bind(str(path))
        bind_failure(path)
        starting.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


@pytest.mark.fault("socket path that is something else")
@pytest.mark.parametrize(
    "kind", ["file", "directory", "symlink", "dangling symlink", "link to a dead socket", "datagram socket"]
)
def test_what_is_no_stale_socket_is_never_removed(tmp_path: Path, kind: str) -> None:
    """Files, directories, links and datagram sockets at the path are refused and stay unchanged."""
    path, other = tmp_path / "path", tmp_path / "other"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        match kind:
            case "file":
                path.write_text("precious")
            case "directory":
                path.mkdir()
            case "symlink":
                other.write_text("precious")
                path.symlink_to(other)
            case "dangling symlink":
                path.symlink_to(other)
            case "link to a dead socket":
                with socket.socket(socket.AF_UNIX) as dead:
                    dead.bind(str(other))
                path.symlink_to(other)
            case "datagram socket":
                datagrams.bind(str(path))
        before = path.lstat()
        bind_failure(path)
        assert path.lstat() == before
        assert other.exists() is (kind in ("symlink", "link to a dead socket"))


def test_a_path_in_no_folder_cannot_be_bound(tmp_path: Path) -> None:
    """If the directory is missing, the failure has the system's reason."""
    assert bind_failure(tmp_path / "missing" / "socket").reason == "no such file or directory"


def test_a_file_that_is_no_longer_ours_is_left_alone(tmp_path: Path) -> None:
    """If our socket file was replaced by another file, that one is not removed at the end."""
    path = tmp_path / "socket"
    with listener_at(path):
        path.unlink()
        path.write_text("precious")
    assert path.read_text() == "precious"
    path.unlink()
    with listener_at(path):
        path.unlink()
        with listener_at(path) as second:
            pass
        assert not path.exists()
        del second
    assert not path.exists()


def test_an_abstract_socket_needs_no_file_and_is_free_again_after_the_close() -> None:
    """The name is taken while we listen, so that a second server fails, and is free afterwards."""
    path = f"\0netkit-test-{os.getpid()}"
    shown = f"@netkit-test-{os.getpid()}"

    async def script(server: Server) -> None:
        with Client(server.listener) as client:
            assert await client.exchange(b"x") == b"x"
        with pytest.raises(Failure) as caught:
            await listen(Endpoint(path=path), observe=print)
        assert caught.value.exit is Exit.BIND
        server.stop.set()

    for _ in range(2):
        server = serving(script, endpoint=Endpoint(path=path))
        assert [str(event.peer) for event in server.seen(Accepted)] == [f"unix:{shown}"]


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user, and only root can become one")
def test_an_abstract_socket_denies_other_users() -> None:
    """Connections from other users are closed, reported, and not counted, as there is no file mode to deny them."""
    path = f"\0netkit-test-denied-{os.getpid()}"
    script = (
        "import os, socket, sys\nos.setuid(65534)\n"
        "client = socket.socket(socket.AF_UNIX)\nclient.connect('\\0' + sys.argv[1])\nprint(client.recv(10))"
    )

    async def main() -> None:
        listener = await listen(Endpoint(path=path), observe=print)
        server = Server(listener)
        async with Group() as group:
            group.start_soon(server.run(echo, limit=1))
            argv = [sys.executable, "-c", script, path[1:]]
            assert await kernel.to_thread(subprocess.check_output, argv) == b"b''\n"
            with Client(listener) as client:
                assert await client.exchange(b"x") == b"x"
        assert [type(event) for event in server.events] == [Denied, Accepted, Closed]

    kernel.run(main())
