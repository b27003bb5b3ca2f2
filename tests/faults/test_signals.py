"""Signals at every stage: netkit dies by the signal, at once and silently, and leaves nothing behind."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
from pathlib import Path

import pytest

from tests.support import NETKIT, PATIENCE, Finished, died_by, exchange, free_port, netkit, peer, read_all, running
from tests.support.data import PATTERN, digest
from tests.support.namespaces import separate
from tests.support.peers import connect, echo, full_backlog, receive, say_some, server_socket, udp, wait_for_refusal
from tests.support.processes import ends, feed, settle, sound, stopped, strace
from tests.support.terminals import on_terminal, pipes, taken, terminal

CONTROLLED = ("setsid", "--ctty")  # a wrapper that makes stdin the controlling terminal


def endless(sock: socket.socket) -> None:
    """Send PATTERN again and again until the peer has closed the connection."""
    while True:
        sock.sendall(PATTERN)


# -- Ctrl-C on a terminal


@pytest.mark.fault("Ctrl-C")
@pytest.mark.parametrize("moment", ["silence", "transfer", "accept"])
def test_ctrl_c_on_a_terminal(moment: str) -> None:
    """Ctrl-C ends netkit by SIGINT, silently; the terminal's modes are unchanged, and data received was written."""
    with contextlib.ExitStack() as stack:
        keyboard, tty = stack.enter_context(terminal())
        modes = termios.tcgetattr(tty)
        out = b""
        if moment == "accept":
            process = stack.enter_context(running("listen", "127.0.0.1:0", wrapper=CONTROLLED, stdin=tty))
            assert process.port
        else:
            server = stack.enter_context(peer(endless if moment == "transfer" else say_some))
            process = stack.enter_context(running("connect", server.address, wrapper=CONTROLLED, stdin=tty))
            out = process.out.read(4)
        os.write(keyboard, b"\x03")
        out += process.read_all()
        assert died_by(process.wait()) is signal.SIGINT
        sound(process.finish(), -signal.SIGINT)
        assert termios.tcgetattr(tty) == modes
    if moment == "transfer":
        assert (PATTERN * (len(out) // len(PATTERN) + 1)).startswith(out)
    else:
        assert out == (b"some" if moment == "silence" else b"")


# -- Ctrl-C, or another fatal signal, while netkit waits


ALL = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.fault("SIGTERM to a client")
@pytest.mark.parametrize("number", ALL)
def test_client_dies_by_the_signal(number: signal.Signals) -> None:
    """A client dies by the signal, and its peer sees a reset rather than an end."""
    with peer(lambda sock: (sock.sendall(b"some"), sock.recv(1))) as server:
        with running("connect", server.address) as process:
            assert process.out.read(4) == b"some"
            ends(process, number)
        assert isinstance(server.result(), ConnectionResetError)


def test_listener_dies_by_the_signal(tmp_path: Path) -> None:
    """``listen`` without a client dies by the signal, and removes its port file."""
    path = tmp_path / "port"
    with running("listen", "127.0.0.1:0", "--port-file", str(path)) as process:
        port = process.port
        assert path.read_text() == f"{port}\n"
        ends(process, signal.SIGTERM)
    assert list(tmp_path.iterdir()) == []


def with_silent_resolver(folder: Path) -> list[str]:
    """Return a wrapper that runs a command with a resolver on loopback, configured by files in ``folder``."""
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (folder / "nsswitch.conf").write_text("hosts: files dns\n")
    bind = [f"mount --bind {folder / name} /etc/{name}" for name in ("resolv.conf", "nsswitch.conf")]
    return separate("ip link set lo up", *bind)


SILENT_RESOLVER = """
import signal, socket, subprocess, sys
with socket.socket(type=socket.SOCK_DGRAM) as resolver:
    resolver.bind(("127.0.0.1", 53))
    resolver.settimeout(10)
    client = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=subprocess.PIPE)
    resolver.recv(512)
    client.send_signal(signal.SIGINT)
    said = client.stderr.read()
    print(client.wait(), len(said))
"""


LOOKING_UP = [
    *(["connect", "db.test", "80"], ["connect", "db.test", "80", "--wait", "1h"], ["fetch", "http://db.test/"]),
    *(["portcheck", "db.test:80"], ["resolve", "db.test"], ["udp-send", "db.test", "80", "x"]),
    *(["echo", "db.test", "0"], ["echo", "db.test", "0", "--udp"]),
]


@pytest.mark.parametrize("command", LOOKING_UP, ids=" ".join)
def test_ctrl_c_while_a_name_is_looked_up(command: list[str], tmp_path: Path) -> None:
    """A signal ends netkit at once while a resolver does not answer."""
    wrapper = with_silent_resolver(tmp_path)
    done = subprocess.run([*wrapper, sys.executable, "-c", SILENT_RESOLVER, *NETKIT, *command], capture_output=True)
    assert done.returncode == 0, done.stderr
    code, said = done.stdout.split()
    assert died_by(int(code)) is signal.SIGINT
    assert int(said) == 0


CROWD = """
import re, signal, socket, subprocess, sys
with socket.socket(type=socket.SOCK_DGRAM) as resolver:
    resolver.bind(("127.0.0.1", 53))
    resolver.settimeout(10)
    relay = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    address = re.search(rb"(127.0.0.1):([0-9]+)$", relay.stderr.readline().strip()).groups()
    clients = [socket.create_connection(address) for _ in range(100)]
    for _ in clients:
        relay.stderr.readline()
    resolver.recv(512)
    with open(f"/proc/{relay.pid}/status") as status:
        print(re.search("Threads:[^0-9]*([0-9]+)", status.read())[1])
    for client in clients:
        client.close()
    relay.send_signal(signal.SIGTERM)
    relay.stderr.read()
    print(relay.wait())
"""


def test_clients_of_a_relay_share_the_look_up_of_its_target(tmp_path: Path) -> None:
    """100 clients of a relay that wait for the same look-up need one thread."""
    wrapper = with_silent_resolver(tmp_path)
    command = ["relay", "127.0.0.1:0", "db.test:80", "-v", "-w", "1h"]
    done = subprocess.run([*wrapper, sys.executable, "-c", CROWD, *NETKIT, *command], capture_output=True)
    assert done.returncode == 0, done.stderr
    threads, code = done.stdout.split()
    assert (int(threads), died_by(int(code))) == (2, signal.SIGTERM)


def test_ctrl_c_while_connecting_to_a_black_hole() -> None:
    """Ctrl-C ends a connection attempt without an answer at once."""
    with full_backlog() as port, running("connect", f"127.0.0.1:{port}", "-vv") as process:
        process.line("trying 127.0.0.1")
        settle(process)
        process.said.clear()
        ends(process, signal.SIGINT)


def test_ctrl_c_while_waiting_for_a_server() -> None:
    """Ctrl-C ends netkit between two attempts of --wait."""
    with running("connect", f"127.0.0.1:{free_port()}", "--wait", "1h", "-vv") as process:
        for _ in range(4):
            process.line("again in")
        process.said.clear()
        ends(process, signal.SIGINT)


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_ctrl_c_while_stdout_takes_nothing(kind: str) -> None:
    """Ctrl-C ends netkit although stdout is full, and its reader still gets the beginning of the data in order."""
    with contextlib.ExitStack() as stack:
        if kind == "pipe":
            _, _, shown, stdout = stack.enter_context(pipes())
        else:
            shown, stdout = stack.enter_context(terminal())
        address, listener = server_socket("connect")
        stack.enter_context(listener)
        process = stack.enter_context(running("connect", address, stdout=stdout))
        sock = stack.enter_context(listener.accept()[0])
        while True:  # until all buffers are full
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.send(PATTERN)
            settle(process)
            if not select.select([], [sock], [], 0)[1]:
                break
        ends(process, signal.SIGINT)
        os.set_blocking(shown, False)
        kept = os.read(shown, 4000).replace(b"\r", b"")
        assert len(kept) > 1000
        assert PATTERN.startswith(kept)


@pytest.mark.fault("socket file left behind")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, None])
def test_unix_socket_goes_with_its_server(number: signal.Signals | None) -> None:
    """A server removes its Unix socket however it ends, except by SIGKILL, after which a new server replaces it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "socket")
        with running("echo", f"unix:{path}", "--once") as process:
            process.line("listening on")
            if number is None:
                sound(netkit("connect", f"unix:{path}"), 0)
                sound(process.finish(), 0)
            else:
                ends(process, number)
        assert path.exists() == (number is signal.SIGKILL)
        if path.exists():
            done = netkit("echo", f"unix:{path}", "--for", "20ms")
            assert f"listening on unix:{path}\n" in sound(done, 0).err
        assert os.listdir(folder) == []


# -- Ctrl-C while netkit starts


IMPORTS = """
import atexit, os, sys
import netkit
at, seen, begun = int(sys.argv.pop(1)), 0, False

def hook(event, args):
    global seen, begun
    if event == "exec":
        begun = begun or args[0].co_filename.endswith("__main__.py")
    elif event == "import" and begun:
        seen += 1
        if seen == at:
            os.kill(os.getpid(), 2)

if not at:
    atexit.register(lambda: os.write(2, b"%d" % seen))
path = os.path.join(netkit.__path__[0], "__main__.py")
with open(path) as file:
    code = compile(file.read(), path, "exec")
sys.addaudithook(hook)
exec(code, {"__name__": "__main__"})
"""


@pytest.mark.fault("Ctrl-C")
def test_ctrl_c_at_every_moment_of_the_start() -> None:
    """From the first import to the last, Ctrl-C ends netkit by SIGINT, without a traceback or a message."""
    with peer(lambda sock: sock.sendall(read_all(sock))) as server, contextlib.ExitStack() as stack:
        start = [sys.executable, "-c", IMPORTS]
        command = ["connect", server.address, "--send", "x"]
        at_exit = {**os.environ, "NETKIT_ATEXIT": "1"}
        counted = subprocess.run([*start, "0", *command], capture_output=True, env=at_exit, timeout=PATIENCE)
        assert counted.stdout == b"x"
        last = int(counted.stderr)
        assert last > 30
        moments = sorted({1, 2, 3, *(1 + last * step // 9 for step in range(9)), last})
        runs = {at: stack.enter_context(running(argv=[*start, str(at), *command])) for at in moments}
        for at, process in runs.items():
            done = process.finish()
            assert (at, died_by(done.code), done.err) == (at, signal.SIGINT, "")


# -- servers


@pytest.mark.fault("SIGTERM to a server")
def test_server_drains_its_clients() -> None:
    """A stopping server refuses new clients, serves connected ones to their end, and then dies by the signal."""
    with running("echo", "127.0.0.1:0") as server, contextlib.ExitStack() as stack:
        port = server.port
        clients = [stack.enter_context(connect(port)) for _ in range(3)]
        for client in clients:
            client.sendall(b"first")
            assert receive(client, 5) == b"first"
        server.signal(signal.SIGINT)
        wait_for_refusal(port)
        for client in clients:
            client.sendall(b"last")
            client.shutdown(socket.SHUT_WR)
            assert receive(client, 5) == b"last"
        server.wait()
        sound(server.finish(), -signal.SIGINT)


@pytest.mark.fault("SIGTERM to a server")
def test_second_signal_skips_the_drain() -> None:
    """A second signal resets the clients and ends the server at once, by the second signal."""
    with running("echo", "127.0.0.1:0") as server, connect(server.port) as client:
        client.sendall(b"first")
        assert receive(client, 5) == b"first"
        server.signal(signal.SIGTERM)
        wait_for_refusal(client.getpeername()[1])
        ends(server, signal.SIGINT)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


STUBBORN = 'trap "echo asked >&2" TERM; echo $$ >&2; while :; do sleep 0.05; done'


def test_second_signal_does_not_wait_for_command() -> None:
    """On a second signal a COMMAND that ignores SIGTERM is killed, and leaves no orphan."""
    with running("echo", "127.0.0.1:0", "-q", "--", "sh", "-c", STUBBORN) as server:
        child = int(server.line(r"^(\d+)$")[1])
        server.signal(signal.SIGTERM)
        server.line("^asked$")
        server.signal(signal.SIGINT)
        assert died_by(server.wait()) is signal.SIGINT
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


# -- hang-up


@pytest.mark.fault("SIGHUP")
def test_hang_up_of_the_terminal() -> None:
    """When the terminal hangs up, netkit dies by SIGHUP."""
    with (
        terminal() as (window, tty),
        peer(say_some) as server,
        running("connect", server.address, wrapper=CONTROLLED, stdin=tty) as process,
    ):
        assert process.out.read(4) == b"some"
        os.close(tty)
        os.close(window)
        assert died_by(process.wait()) is signal.SIGHUP
        sound(process.finish(), -signal.SIGHUP)


@pytest.mark.fault("terminal hangs up")
def test_terminal_that_goes_without_a_signal() -> None:
    """If the terminal on stdin is not the controlling one, its hang-up is the end of input: 0 or 26, no signal."""

    def answer(sock: socket.socket) -> None:
        sock.sendall(b"some")
        sock.sendall(b"then %d" % len(read_all(sock)))

    with (
        terminal() as (window, tty),
        peer(answer) as server,
        running("connect", server.address, stdin=tty) as process,
    ):
        assert process.out.read(4) == b"some"
        os.close(tty)
        os.close(window)
        assert process.read_all() in (b"then 0", b"")
        process.wait()
        sound(process.finish(), 0, 26)


@pytest.mark.fault("SIGHUP")
@pytest.mark.parametrize("number", ALL)
def test_ignored_signal_stays_ignored(number: signal.Signals) -> None:
    """A signal that was ignored at the start, as under nohup, stays ignored."""
    wrapper = ("sh", "-c", f'trap "" {number.name[3:]}; exec "$@"', "sh")
    with running("echo", "127.0.0.1:0", "--once", wrapper=wrapper) as server:
        port = server.port
        server.signal(number)
        assert exchange(port, b"still here") == b"still here"
        sound(server.finish(), 0)


# -- signals that a parent left ignored or blocked


HOSTILE = ("env", "--ignore-signal=INT,PIPE,CHLD,TERM")


@pytest.mark.fault("signals ignored or held back at the start")
@pytest.mark.parametrize("code, script", [(7, "exit 7"), (0, ":"), (137, "kill -9 $$")])
def test_ignored_signals_hide_no_code_of_command(code: int, script: str) -> None:
    """The exit code of COMMAND is that of netkit, even if the parent left SIGCHLD ignored."""
    done = netkit("echo", "127.0.0.1:0", "-q", "--", "sh", "-c", script, wrapper=HOSTILE)
    assert done == Finished(code, b"", "")


def test_ignored_signals_change_no_exit_code() -> None:
    """Signals ignored at the start do not change the message or exit code of a failure."""
    sound(netkit("connect", f"127.0.0.1:{free_port()}", wrapper=HOSTILE), 7)


@pytest.mark.fault("signals ignored or held back at the start")
@pytest.mark.parametrize("wrapper", [HOSTILE, ("env", "--block-signal=PIPE"), ("env", "--block-signal=CHLD")])
def test_reader_that_leaves_where_signals_are_held_back(wrapper: tuple[str, ...]) -> None:
    """If the reader of stdout leaves, netkit ends by SIGPIPE, even if it or SIGCHLD was ignored or blocked at start."""
    with peer(say_some) as server, running("connect", server.address, wrapper=wrapper) as process:
        assert process.out.read(4) == b"some"
        process.out.close()
        process.process.stdout = None
        process.wait()
        done = process.finish()
    sound(done, -signal.SIGPIPE)


# -- signals that do not end netkit


@pytest.mark.fault("stopped, resized")
def test_stopping_and_resizing_disturb_no_transfer() -> None:
    """30 MB to a peer and back are intact while netkit is stopped, continued and gets SIGWINCH."""
    data = os.urandom(30_000_000)  # so much that netkit still runs in the last turn of the loop
    with peer(echo) as server, running("connect", server.address) as process:
        feeder = threading.Thread(target=feed, args=(process, data))
        feeder.start()
        chunks = []
        for checkpoint in range(200):
            chunks.append(process.out.read(65536))
            process.signal(signal.SIGWINCH)
            if checkpoint % 20 == 0:
                process.signal(signal.SIGSTOP)
                os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
                process.signal(signal.SIGCONT)
        chunks.append(process.read_all())
        feeder.join()
        sound(process.finish(), 0)
    assert digest(b"".join(chunks)) == digest(data)


@pytest.mark.fault("stopped, resized")
def test_what_came_while_we_were_stopped_is_no_silence() -> None:
    """After a stop that is longer than --idle-timeout, data that arrived meanwhile is read, not timed out."""
    address, listener = server_socket("connect")
    with listener, running("connect", address, "--idle-timeout", "1s") as process:
        with listener.accept()[0] as there:
            there.sendall(b"before, ")
            assert process.out.read(8) == b"before, "
            settle(process)
            with stopped(process):
                there.sendall(b"meanwhile, ")
                assert netkit("listen", "127.0.0.1:0", "--for", "1100ms", "-q").code == 0
            assert process.out.read(11) == b"meanwhile, "
            there.sendall(b"after")
        assert process.read_all() == b"after"
        sound(process.finish(), 0)


@pytest.mark.fault("stopped, resized")
def test_datagrams_that_came_while_we_were_stopped_are_no_silence() -> None:
    """The same for a conversation in datagrams, which are read from the system by another task than its own."""
    words = ("--idle-timeout", "1s", "--until", "after")
    with running("listen", "udp:127.0.0.1:0", *words) as process, udp() as there:
        there.connect(("127.0.0.1", process.port))
        there.send(b"before, ")
        assert process.out.read(8) == b"before, "
        settle(process)
        with stopped(process):
            there.send(b"meanwhile, ")
            assert netkit("listen", "127.0.0.1:0", "--for", "1100ms", "-q").code == 0
        assert process.out.read(11) == b"meanwhile, "
        there.send(b"after")
        assert process.read_all() == b"after"
        sound(process.finish(), 0)


@pytest.mark.fault("stopped, resized")
def test_what_waited_to_be_sent_while_we_were_stopped_is_no_silence(tmp_path: Path) -> None:
    """After a stop that is longer than --idle-timeout, the rest of a body is sent, not timed out."""
    body = tmp_path / "body"
    body.write_bytes(bytes(16 << 20))  # more than socket buffers hold
    _, listener = server_socket("connect")
    where = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    with listener, running("fetch", where, "--data-file", str(body), "--idle-timeout", "1s") as process:
        with listener.accept()[0] as there:
            settle(process)
            with stopped(process):
                reading = threading.Thread(target=receive, args=(there, 16 << 20))
                reading.start()
                assert netkit("listen", "127.0.0.1:0", "--for", "1100ms", "-q").code == 0
            reading.join()
            there.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
            assert process.read_all() == b"done"
        sound(process.finish(), 0)


# Without read and connect, which are tested apart: the loader calls them too, and does not cope with EINTR.
INTERRUPTED = "recvfrom,sendto,accept4,write,pwritev2,?epoll_wait,epoll_pwait"


def interrupting(calls: str, *more: str) -> list[str]:
    """Return a wrapper that interrupts the first three of each of these system calls."""
    inject = f"inject={calls}:error=EINTR:when=1..3"
    return [*strace(f"trace={calls}", inject), *more]


@pytest.mark.fault("interrupted calls")
def test_interrupted_calls_of_a_server() -> None:
    """A server works although each kind of system call is interrupted three times."""
    with running("echo", "127.0.0.1:0", "--once", wrapper=interrupting(INTERRUPTED)) as server:
        assert digest(exchange(server.port, PATTERN)) == digest(PATTERN)
        sound(server.finish(), 0)


@pytest.mark.fault("interrupted calls")
def test_interrupted_calls_of_a_client(tmp_path: Path) -> None:
    """A client works although each kind of system call is interrupted three times."""
    path = tmp_path / "input"
    path.write_bytes(PATTERN)
    for wrapper in (interrupting(INTERRUPTED), interrupting("read", "-P", str(path))):
        with peer(echo) as server, open(path, "rb") as stdin:
            done = sound(netkit("connect", server.address, stdin=stdin, wrapper=wrapper), 0)
        assert digest(done.out) == digest(PATTERN)


@pytest.mark.fault("interrupted calls")
def test_interrupted_connecting() -> None:
    """A connection is established although connect(2) is interrupted."""
    with peer(echo) as server:
        done = netkit("connect", server.address, input=b"hello", wrapper=interrupting("connect"))
    assert sound(done, 0).out == b"hello"


# -- escape sequences


ESCAPES = b"\x1b]0;title\x07 \x1b[2J \x9b31m \xc2\x9b31m \x00\x08\x7f t\tcaf\xc3\xa9\n"
SHOWN = rb"\x1b]0;title\x07 \x1b[2J \x9b31m \x9b31m \x00\x08\x7f" + b" t\tcaf\xc3\xa9\r\n"


@pytest.mark.fault("escapes for a terminal")
@pytest.mark.parametrize("name", ["connect", "listen"])
def test_escapes_on_a_terminal(name: str) -> None:
    """On a terminal a peer's control bytes are escaped, unless with --raw."""
    assert on_a_terminal(name) == SHOWN
    assert on_a_terminal(name, "--raw") == ESCAPES.replace(b"\n", b"\r\n")


def on_a_terminal(name: str, *options: str) -> bytes:
    """Return what a terminal receives when a peer sends ESCAPES byte by byte."""

    def say(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(len(ESCAPES)):
            sock.send(ESCAPES[place : place + 1])

    if name == "connect":
        with peer(say) as server:
            code, shown = on_terminal("connect", server.address, *options, stdin=subprocess.DEVNULL)
        assert code == 0
        return shown
    with (
        terminal() as (window, tty),
        running("listen", "127.0.0.1:0", *options, stdin=subprocess.DEVNULL, stdout=tty) as process,
    ):
        with connect(process.port) as client:
            say(client)
        sound(process.finish(), 0)
        return taken(window)
