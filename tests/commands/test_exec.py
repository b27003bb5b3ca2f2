"""--exec, --sh-exec and COMMAND: what programs are given, how conversations end, and that no process is left."""

import contextlib
import json
import os
import random
import re
import resource
import select
import shlex
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support import PATIENCE, Finished, died_by, exchange, free_port, netkit, peer, read_all, reset, running
from tests.support.namespaces import as_process_1
from tests.support.peers import connect, converse, is_reset, is_silent, read_until, send, until_reset
from tests.support.processes import HERE, children, descriptors, ends, settle, strace
from tests.support.terminals import terminal

MEGABYTE = random.Random(1).randbytes(1_000_000)


class Program:
    """A process that is not our child, watched by a pidfd, so that a reused process id is not mistaken for it."""

    def __init__(self, pid: int) -> None:
        self._fd: int | None = None
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            self._fd = os.pidfd_open(pid)

    def ended(self) -> bool:
        """Wait until it ends, and close the pidfd; return False if it does not end in time."""
        if self._fd is None:
            return True
        try:
            return bool(select.select([self._fd], [], [], PATIENCE)[0])
        finally:
            os.close(self._fd)


def programs_told(client: socket.socket) -> list[Program]:
    """Read a line of process ids, and return the programs."""
    line = read_until(client, b"\n")
    assert line.endswith(b"\n")
    return [Program(int(pid)) for pid in line.split()]


def make_fifo(path: Path) -> str:
    """Make a FIFO; return its path, quoted for a shell."""
    os.mkfifo(path)
    return shlex.quote(str(path))


# -- what a program is given


@pytest.mark.fault("words for programs")
def test_words_are_split_as_in_a_shell_and_nothing_else_happens_to_them() -> None:
    """--exec splits the line into words as a shell does, but no shell runs: $, *, ; and > have no meaning."""
    line = r"""printf %s\\n 'a b' c\ d "e'f" '' $HOME '*' ';' '>x' """
    with running("listen", HERE, "--exec", line) as server:
        assert exchange(server.port, b"").decode().split("\n") == ["a b", "c d", "e'f", "", "$HOME", "*", ";", ">x", ""]


def test_line_for_the_shell() -> None:
    """--sh-exec runs the line in a shell, and the stderr of the program is ours."""
    line = 'tr a-z A-Z | sed "s/^/$WORD/"; echo done >&2'
    with running("listen", HERE, "--sh-exec", line, env={**os.environ, "WORD": "you: "}) as server:
        port = server.port
        assert exchange(port, b"hello\n") == b"you: HELLO\n"
        assert server.finish() == (0, b"", f"netkit listen: listening on 127.0.0.1:{port}\ndone\n")


def told_environment(output: bytes) -> dict[str, str]:
    """Return netkit's variables in the output of ``env``."""
    lines = output.decode().splitlines()
    return dict(line.removeprefix("NETKIT_").split("=", 1) for line in lines if line.startswith("NETKIT_"))


STALE = {**os.environ, "NETKIT_PEER_HOST": "stale", "NETKIT_PEER_PORT": "1", "NETKIT_LOCAL_PORT": "2"}


@pytest.mark.ipv6
def test_both_ends_are_in_the_environment_of_a_server_program() -> None:
    """A server's program gets the addresses and ports of both ends, and not those of our own environment."""
    with running("listen", "0", "--keep", "--exec", "env", env=STALE) as server:
        port = server.port
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, port)) as client:
                own = client.getsockname()[1]
                wanted = {"PEER_HOST": host, "PEER_PORT": str(own), "LOCAL_HOST": host, "LOCAL_PORT": str(port)}
                assert told_environment(read_all(client)) == wanted


@pytest.mark.ipv6
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_both_ends_are_in_the_environment_of_a_client_program(host: str) -> None:
    """connect tells its program the addresses and ports of both ends."""
    with peer(lambda sock: (sock.getpeername()[1], read_all(sock)), host) as server:
        assert netkit("connect", server.address, "--exec", "env", env=STALE).code == 0
        own, output = server.result()
    wanted = {"PEER_HOST": host, "PEER_PORT": str(server.port), "LOCAL_HOST": host, "LOCAL_PORT": str(own)}
    assert told_environment(output) == wanted


def test_environment_of_an_outer_conversation_is_not_passed_on() -> None:
    """Over a unix socket there is no host and no port, and those of an outer conversation are not passed on."""
    name = f"netkit-test-{free_port()}"
    with running("listen", f"unix:@{name}", "--exec", "env", env=STALE) as server:
        server.line("listening")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"\0{name}")
            assert told_environment(read_all(client)) == {}


@pytest.mark.fault("descriptors of programs")
def test_program_sees_descriptors_0_to_2_alone() -> None:
    """A program inherits no listener, client or pipe; ls itself opens 3, the lowest free descriptor."""
    with running("listen", HERE, "-k", "--exec", "ls /proc/self/fd") as server:
        port = server.port
        with connect(port):
            assert exchange(port, b"").split() == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize("ignored, mask", [([], 0), (["--ignore-signal=HUP"], 1 << (signal.SIGHUP - 1))])
def test_program_has_the_signals_that_we_were_given(ignored: list[str], mask: int) -> None:
    """A program has no blocked signals, and ignores only what was ignored when netkit started; not SIGPIPE."""
    wrapper = ["env", "--default-signal", *ignored]
    with running("listen", HERE, "--exec", "cat /proc/self/status", wrapper=wrapper) as server:
        status = exchange(server.port, b"").decode()
    named = (1 << 31) - 1  # glibc uses the signals above for itself, and its posix_spawn ignores them
    found = re.findall(r"^(Sig(?:Blk|Ign)):\s*(\w+)$", status, re.MULTILINE)
    masks = {name: int(bits, 16) & named for name, bits in found}
    assert masks == {"SigBlk": 0, "SigIgn": mask}


# -- exit codes


@pytest.mark.fault("signals ignored or held back at the start")
@pytest.mark.parametrize(
    "line, code, wrapper",
    [("exit 7", 7, []), ("kill -9 $$", 137, []), ("exit 7", 7, ["env", "--ignore-signal=CHLD"])],
)
def test_exit_code_of_the_program_is_that_of_connect(line: str, code: int, wrapper: list[str]) -> None:
    """connect exits with the code of its program, or 128+n for a signal, also if SIGCHLD was ignored at its start."""
    with peer(read_all) as server:
        assert netkit("connect", server.address, "--sh-exec", line, wrapper=wrapper) == Finished(code, b"", "")


@pytest.mark.parametrize("options, code", [([], 3), (["--keep", "--once"], 0)])
def test_exit_code_of_listen(options: list[str], code: int) -> None:
    """listen exits with the code of its only program; with --keep it exits with 0. --stats has the same code."""
    with running("listen", HERE, "--sh-exec", "cat; exit 3", "--stats", *options) as server:
        assert exchange(server.port, b"all of it") == b"all of it"
        done = server.finish()
    assert (done.code, json.loads(done.err.splitlines()[-1])["exit_code"]) == (code, code)


CANNOT_RUN = [
    ("no-such-program -x", 127, "no-such-program: no such file or directory"),
    ("/etc/passwd", 126, "/etc/passwd: permission denied"),
]


@pytest.mark.parametrize("name", ["connect", "listen", "udp-serve"])
@pytest.mark.parametrize("line, code, said", CANNOT_RUN)
def test_program_that_cannot_run_is_told_first(name: str, line: str, code: int, said: str) -> None:
    """A program that cannot run is exit code 127 or 126, before anything connects, or listens on a port in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = netkit(name, f"127.0.0.1:{server.getsockname()[1]}", "--exec", line)
        assert done == Finished(code, b"", f"netkit {name}: cannot run {said}\n")
        assert is_silent(server)


@pytest.fixture
def garbage(tmp_path: Path) -> str:
    """Make an executable file that is no program."""
    path = tmp_path / "garbage"
    path.write_text("garbage\n")
    path.chmod(0o755)
    return str(path)


def test_file_that_is_no_program_is_126_in_one_line(garbage: str) -> None:
    """If the system cannot run the file once the peer is connected, the peer is reset, and one line says why."""
    said = f"cannot run {garbage}: exec format error\n"
    with peer(read_all) as server:
        done = netkit("connect", server.address, "--exec", garbage)
        assert done == Finished(126, b"", f"netkit connect: {said}")
        assert isinstance(server.result(), ConnectionResetError)


def test_file_that_is_no_program_is_126_for_the_one_client(garbage: str) -> None:
    """listen for one client ends with 126 and one line too."""
    with running("listen", HERE, "--exec", garbage) as process:
        port = process.port
        assert is_reset(port)
        said = f"netkit listen: listening on 127.0.0.1:{port}\nnetkit listen: cannot run {garbage}: exec format error\n"
        assert process.finish() == (126, b"", said)


def test_program_does_not_start_without_a_connection(tmp_path: Path) -> None:
    """If the connection is refused, the exit code is 7 and the program does not run."""
    assert netkit("connect", f"127.0.0.1:{free_port()}", "--exec", f"touch {tmp_path}/ran").code == 7
    assert list(tmp_path.iterdir()) == []


# -- how a conversation ends


def test_late_answer_is_delivered_whole(tmp_path: Path) -> None:
    """An answer long after the half-close is delivered whole, without the usual half second of grace."""
    answer = tmp_path / "answer"
    answer.write_bytes(MEGABYTE)
    gates = [tmp_path / "listen", tmp_path / "connect"]
    lines = [f"cat >/dev/null; read x < {make_fifo(gate)}; cat {answer}" for gate in gates]
    with (
        running("listen", HERE, "--sh-exec", lines[0]) as process,
        peer(lambda sock: converse(sock, b"question")) as server,
        running("connect", server.address, "--sh-exec", lines[1]) as other,
        connect(process.port) as client,
    ):
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        with gates[0].open("w") as first, gates[1].open("w") as second:  # opened once the programs have seen the end
            settle(process)
            assert is_silent(client)
            first.write("go\n")
            second.write("go\n")
        assert read_all(client) == MEGABYTE
        assert server.result() == MEGABYTE
        assert process.wait() == other.wait() == 0


def test_program_that_does_not_read_all() -> None:
    """If a program does not read all its input, the client still gets its answer and our end, and no reset."""
    programs = {"true": b"", "head -c 5": MEGABYTE[:5], f"head -c {len(MEGABYTE)}": MEGABYTE}
    with running("listen", HERE, "--keep", "--sh-exec", 'read -r line; eval "exec $line"') as process:
        port = process.port
        for line, answer in programs.items():
            data = line.encode() + b"\n" + MEGABYTE
            assert exchange(port, data) == answer
            with connect(port) as client:
                sender = threading.Thread(target=client.sendall, args=(data,))
                sender.start()
                assert read_all(client) == answer
                sender.join()


@pytest.mark.parametrize("line, answer", [("true", b""), ("head -c 5", MEGABYTE[:5])])
def test_program_of_connect_that_does_not_read_all(line: str, answer: bytes) -> None:
    """For connect too: the server gets the program's answer and our end, and the exit code is the program's."""
    with peer(send(MEGABYTE)) as server:
        assert netkit("connect", server.address, "--exec", line) == Finished(0, b"", "")
        assert server.result() == answer


def test_peer_that_never_stops_sending_does_not_keep_us() -> None:
    """Once the program has ended, connect leaves a peer that keeps sending, and exits with the program's code."""

    def chatter(sock: socket.socket) -> None:
        while True:
            sock.sendall(MEGABYTE)

    with peer(chatter) as server, running("connect", server.address, "--sh-exec", "head -c 5; exit 3") as process:
        assert process.wait() == 3


def test_program_that_ended_its_output_reads_on(tmp_path: Path) -> None:
    """A program that has closed its output still gets all its input."""
    gate, kept = tmp_path / "gate", tmp_path / "kept"
    line = f"exec >&-; read x < {make_fifo(gate)}; cat > {kept}"
    with running("listen", HERE, "--sh-exec", line) as process, connect(process.port) as client:
        assert client.recv(1) == b""
        sender = threading.Thread(target=lambda: (client.sendall(MEGABYTE), client.shutdown(socket.SHUT_WR)))
        sender.start()
        gate.write_text("go\n")
        assert process.wait() == 0
        sender.join()
    assert kept.read_bytes() == MEGABYTE


@pytest.mark.parametrize("name", ["connect", "listen"])
def test_reset_ends_the_program(name: str) -> None:
    """A reset by the peer ends the program, and is reported."""

    def watch_and_reset(sock: socket.socket) -> Program:
        program = programs_told(sock)[0]
        reset(sock)
        return program

    line = "echo $$; exec sleep 100"
    if name == "connect":
        with peer(watch_and_reset) as server:
            done = netkit("connect", server.address, "--sh-exec", line)
            assert (done.code, done.err) == (
                56,
                f"netkit connect: cannot receive from {server.address}: connection reset by peer (after 0 bytes)\n",
            )
            assert server.result().ended()
    else:
        with running("listen", HERE, "--keep", "-v", "--sh-exec", line) as process:
            with connect(process.port) as client:
                program = watch_and_reset(client)
            process.line("closed after .*: connection reset by peer")
            assert program.ended()
            assert children(process.pid) == []


def test_idle_timeout_ends_client_and_program_alone() -> None:
    """--idle-timeout resets the client and ends its program; the server goes on."""
    options = ("--keep", "-v", "--idle-timeout", "1s")  # within which the program says who it is
    with running("listen", HERE, *options, "--sh-exec", "echo $$; exec cat") as process:
        port = process.port
        with connect(port) as client:
            program = programs_told(client)[0]
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        process.line("closed after .*nothing moved for 1 s")
        assert program.ended()
        assert exchange(port, b"next").endswith(b"\nnext")


@pytest.mark.parametrize(
    "clock, said",
    [
        ("--idle-timeout", "cannot go on with {}: nothing moved for 2 s (--idle-timeout)"),
        ("--timeout", "cannot finish: time ran out after 2 s (--timeout)"),
    ],
)
def test_clocks_of_connect_end_the_program(clock: str, said: str) -> None:
    """If a clock expires, the exit code is 28 and the message names it; the peer is reset and the program ended."""

    def watch(sock: socket.socket) -> Program:
        program = programs_told(sock)[0]
        until_reset(sock)
        return program

    with peer(watch) as server:
        done = netkit("connect", server.address, clock, "2s", "--sh-exec", "echo $$; exec sleep 100")
        assert done == Finished(28, b"", f"netkit connect: {said.format(server.address)}\n")
        assert server.result().ended()


def test_grace_bounds_a_program_that_does_not_end() -> None:
    """With --grace, a program that stays idle after its client has ended is ended, and the client disconnected."""
    line = "echo $$; exec sleep 5"
    with (
        running("listen", HERE, "--keep", "--grace", "100ms", "--sh-exec", line) as process,
        connect(process.port) as client,
    ):
        program = programs_told(client)[0]
        client.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""
        assert program.ended()


@pytest.mark.parametrize(
    "options, line",
    [
        (["--until", "OK"], "cat"),
        (["--max-bytes", "8"], 'all=$(cat); printf %s "$all"'),
        (["--until", "OK"], "sleep 0"),
    ],
)
def test_ends_that_the_data_decides(options: list[str], line: str) -> None:
    """The program gets the data up to the limit and then its input ends; its answer is sent, and the code is 0."""
    with peer(send(b"hello OK and more")) as server:
        assert netkit("connect", server.address, *options, "--sh-exec", line) == Finished(0, b"", "")
        assert server.result() == (b"" if line == "sleep 0" else b"hello OK")


def test_until_that_does_not_come_is_8() -> None:
    """If --until finds no match the exit code is 8, even if the program succeeds."""
    with peer(lambda sock: converse(sock, b"hello")) as server:
        done = netkit("connect", server.address, "--until", "OK", "--exec", "cat")
    assert (done.code, done.out) == (8, b"")
    assert done.err == f"netkit connect: cannot find 'OK' in what {server.address} sent: it ended before\n"


def test_server_until_stops_with_0() -> None:
    """A server of programs stops once a client's data matches --until; that client gets its whole answer."""
    with running("listen", HERE, "--keep", "--until", "bye", "--exec", "cat") as process:
        assert exchange(process.port, b"good bye\n") == b"good bye\n"
        assert process.wait() == 0


# -- many, and none left over


@pytest.mark.fault("programs that ended")
def test_short_lived_programs_leave_no_zombie() -> None:
    """After 30 clients, one by one and at the same time, the running server has no child process left."""
    with running("listen", HERE, "--keep", "-v", "--exec", "cat") as process:
        port = process.port
        for number in range(15):
            assert exchange(port, b"%d" % number) == b"%d" % number
        clients = [connect(port) for _ in range(15)]
        for client in clients:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        assert len(children(process.pid)) >= 15
        for client in clients:
            client.close()
        for _ in range(30):
            process.line("closed after")
        assert children(process.pid) == []


SCRIPTS = [
    "echo $$; exec sleep 100",
    "sleep 100 & echo $$ $!; wait; true",  # as --sh-exec 'sleep 100; true' would be: a child of the shell
    "trap '' TERM HUP INT; sleep 100 & echo $$ $!; wait; sleep 100; true",
]


@pytest.mark.fault("SIGTERM to a server")
def test_signal_ends_server_and_programs() -> None:
    """A signal ends all programs and their children, even those that ignore it; clients that end in time are served."""
    with running("listen", HERE, "--keep", "--sh-exec", 'read -r line; eval "$line"') as process:
        port = process.port
        clients = [connect(port) for _ in [*SCRIPTS, "cat"]]
        programs: list[Program] = []
        for client, script in zip(clients, SCRIPTS, strict=False):
            client.sendall(script.encode() + b"\n")
            programs += programs_told(client)
        assert len(programs) == 5
        last = clients[-1]
        last.sendall(b"exec cat\nhere")
        assert last.recv(4) == b"here"

        process.signal(signal.SIGTERM)
        last.sendall(b"still here")
        last.shutdown(socket.SHUT_WR)
        assert read_all(last) == b"still here"
        assert died_by(process.wait()) is signal.SIGTERM
        assert all([program.ended() for program in programs])
        for client in clients[:-1]:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        for client in clients:
            client.close()


@pytest.mark.parametrize("name", ["connect", "listen"])
def test_signal_ends_the_one_program(name: str) -> None:
    """With one conversation a signal ends it without a drain: the programs are ended and the peer is reset."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = HERE if name == "listen" else f"127.0.0.1:{server.getsockname()[1]}"
        with running(name, address, "--sh-exec", SCRIPTS[1]) as process:
            sock = connect(process.port) if name == "listen" else server.accept()[0]
            with sock:
                programs = programs_told(sock)
                ends(process, signal.SIGINT)
                assert all([program.ended() for program in programs])
                with pytest.raises(ConnectionResetError):
                    sock.recv(1)


def test_program_ends_with_a_netkit_that_was_killed() -> None:
    """After SIGKILL netkit cannot end its programs, but their pipes close, so a program that reads sees the end."""
    with (
        running("listen", HERE, "--keep", "--sh-exec", "echo $$; exec cat") as process,
        connect(process.port) as client,
    ):
        program = programs_told(client)[0]
        process.signal(signal.SIGKILL)
        process.wait()
        assert program.ended()


DESERTER = "import os, signal; os.setpgid(0, os.getpgid(os.getppid())); print(os.getpid(), flush=True); os.close(1); {}"


@pytest.mark.parametrize("then", ["signal.pause()", "signal.signal(15, signal.SIG_IGN); signal.pause()"])
def test_program_that_left_its_process_group(then: str) -> None:
    """A program that left its process group is ended with its connection too, and delays no client and no signal."""
    line = shlex.join([sys.executable, "-c", DESERTER.format(then)])
    with running("listen", HERE, "--keep", "--exec", line, start_new_session=True) as process:
        port = process.port
        for _ in range(2):
            with connect(port) as client:
                [program] = programs_told(client)
                reset(client)
            assert program.ended()
        with connect(port) as client:
            [program] = programs_told(client)
            process.signal(signal.SIGTERM)
            assert died_by(process.wait()) is signal.SIGTERM
            assert program.ended()


def test_program_that_cannot_be_ended() -> None:
    """A program that may not be killed (as if it had become root) is reported, and the server goes on."""
    tracing = strace("inject=kill:error=EPERM")
    command = ["--keep", "--sh-exec", "echo $$; exec 1>&-; exec sleep 100"]
    with running("listen", HERE, *command, wrapper=tracing) as process:
        port = process.port
        programs = []
        for _ in range(2):
            with connect(port) as client:
                programs.append(int(client.makefile("rb").readline()))
                reset(client)
            left = process.line(r"cannot end sh: operation not permitted \(process (\d+)\)$")
            assert int(left[1]) == programs[-1]
        for each in (*programs, *children(process.pid)):
            os.kill(each, signal.SIGKILL)


def test_what_a_program_left_in_its_group_ends_with_it() -> None:
    """What a program left in its process group is ended with the conversation, even if the program exited itself."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with running("connect", address, "--sh-exec", "sleep 100 >&- 2>&- & echo $!; exit 3") as process:
            with server.accept()[0] as sock:
                [program] = programs_told(sock)
            assert program.ended()
            assert process.wait() == 3


# -- COMMAND


@pytest.mark.parametrize("options, code", [(["--for", "50ms"], 0), (["--accept-timeout", "50ms"], 28)])
def test_all_that_command_started_ends_with_the_server(options: list[str], code: int) -> None:
    """All processes that COMMAND started are ended with the server, so a reader of our stdout sees its end."""
    command = ["sh", "-c", "sleep 100; true"]
    done = netkit("echo", HERE, "-q", *options, "--", *command)
    assert (done.code, done.out) == (code, b"")


def test_all_that_command_started_ends_with_it() -> None:
    """When COMMAND exits, its background jobs are ended too, and the exit code is COMMAND's."""
    done = netkit("echo", HERE, "-q", "--", "sh", "-c", "sleep 100 & exit 4")
    assert (done.code, done.out) == (4, b"")


def test_command_that_left_its_process_group_ends_with_the_server() -> None:
    """A COMMAND that left its process group is ended with the server, and waited for."""
    command = [sys.executable, "-c", DESERTER.format("signal.pause()")]
    with running("echo", HERE, "--", *command) as server:
        program = int(server.out.readline())
        ends(server, signal.SIGTERM)
    with pytest.raises(ProcessLookupError):
        os.kill(program, 0)


def test_command_on_a_terminal_can_read_it() -> None:
    """COMMAND stays in our process group, as a background group could not read the terminal."""
    with terminal() as (keyboard, tty):
        command = ["sh", "-c", "read -r line; echo got $line"]
        wrapper = ("setsid", "--ctty")
        with running("echo", HERE, "-q", "--", *command, wrapper=wrapper, stdin=tty) as process:
            os.write(keyboard, b"this\n")
            assert process.read_all() == b"got this\n"
            assert process.wait() == 0


def test_process_1_reaps() -> None:
    """As process 1 netkit reaps orphans that programs leave behind, and signals still end it."""
    listen = ("listen", HERE, "--keep", "--sh-exec", "(setsid sleep 0 >&- 2>&- &); echo hi")
    with running(*listen, wrapper=as_process_1()) as process:
        port = process.port
        for _ in range(5):
            assert exchange(port, b"") == b"hi\n"
        [first] = children(process.pid)
        [ours, *zombies] = children(first)
        while zombies or children(ours):
            os.sched_yield()
            [ours, *zombies] = children(first)
        os.kill(first, signal.SIGTERM)
        assert process.wait() == 128 + signal.SIGTERM


def test_programs_beside_command() -> None:
    """--exec together with COMMAND: the server runs as long as COMMAND, and exits with its code."""
    command = ["sh", "-c", '"$0" -m netkit connect $NETKIT_ADDRESS --send hi; exit 3', sys.executable]
    done = netkit("listen", HERE, "--keep", "-q", "--exec", "cat", "--", *command)
    assert done == Finished(3, b"hi", "")


# -- no descriptor left


def test_client_without_a_program_is_reset_and_the_server_goes_on() -> None:
    """If no descriptor is left for a program, that client is reset with one line, and the server goes on."""
    options = ("--keep", "-v", "--exec", "cat")
    with running("listen", HERE, *options, wrapper=["prlimit", "--nofile=16"]) as process:
        port = process.port
        with connect(port) as first:
            first.sendall(b"1")
            assert first.recv(1) == b"1"
            assert is_reset(port)
            process.line("closed after .*cannot run cat")
            told = [line for line in process.said if "too many" in line and "closed" not in line]
            assert told == ["netkit listen: cannot run another program for now: too many open files\n"]
            first.sendall(b"2")
            assert first.recv(1) == b"2"
        process.line("closed after")
        assert exchange(port, b"third") == b"third"


@contextmanager
def no_descriptor_left(pid: int) -> Iterator[None]:
    """Lower the limit of a process so that it can open no further descriptor."""
    open_ones = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    lowest_free = next(fd for fd in range(len(open_ones) + 1) if fd not in open_ones)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.fault("no descriptor to accept with")
def test_no_room_to_accept_is_cheap_and_passes() -> None:
    """While no descriptor is left the server waits without spinning, after one line; then it serves the client."""
    with running("listen", HERE, "--keep", "--exec", "cat", real=True) as process:
        port = process.port
        with connect(port) as first:
            first.sendall(b"1")
            assert first.recv(1) == b"1"
            with no_descriptor_left(process.pid):
                second = connect(port)
                second.sendall(b"2")
                process.line("cannot accept another client for now: too many open files$")
                settle(process)  # a process that spins would never settle
                assert is_silent(second)
            with second:
                assert second.recv(1) == b"2"
        process.signal(signal.SIGTERM)
        process.wait()
        assert process.finish().err.count("cannot accept") == 1


@pytest.mark.parametrize("left", [0, 1])
def test_half_close_reaches_the_program_without_a_descriptor_to_spare(left: int) -> None:
    """A program sees its client's end also while the server has no descriptor left, or one, and none leaks."""
    with running("listen", HERE, "--keep", "-v", "--exec", "cat") as process:
        port = process.port
        before = descriptors(process.pid)
        with connect(port) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            with no_descriptor_left(process.pid):
                top, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
                resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (top + left, hard))
                client.shutdown(socket.SHUT_WR)
                assert client.recv(1) == b""
        process.line("closed after")
        assert descriptors(process.pid) == before
