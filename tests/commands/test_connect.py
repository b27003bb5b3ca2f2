"""``netkit connect`` as its users meet it: how a conversation ends, what is sent, and what the exit code says."""

import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import NETKIT, Finished, Running, free_port, jam, netkit, peer, read_all, reset, running
from tests.support.data import digest

BIG = 20_000_000


def closed_line(process: Running) -> str:
    """Wait for the line that ``-v`` says at the end of a conversation."""
    return process.line(r"closed after")[0] and process.said[-1]


# -- how a conversation ends


def test_answer_that_comes_after_our_end_is_read() -> None:
    """A server that answers only once our input has ended gets its end, and we get the answer."""

    def count(sock: socket.socket) -> None:
        sock.sendall(b"GOT %d\n" % len(read_all(sock)))

    with peer(count) as server:
        assert netkit("connect", server.address, input=b"hi") == Finished(0, b"GOT 2\n", "")


def test_answer_that_comes_two_seconds_after_our_end_is_read() -> None:
    """No clock of ours runs while a server thinks."""

    def think(sock: socket.socket) -> None:
        data = read_all(sock)
        threading.Event().wait(2)
        sock.sendall(b"GOT %d\n" % len(data))

    with peer(think) as server:
        assert netkit("connect", server.address, input=b"hi") == Finished(0, b"GOT 2\n", "")


def test_server_ends_while_input_is_open_and_idle() -> None:
    """We leave by ourselves, with 0, within a second of the server's end."""
    with peer(lambda sock: sock.sendall(b"bye\n")) as server, running("connect", server.address, "-v") as process:
        assert process.wait(timeout=10) == 0
        process.line("connected to")
        process.line("input was idle for 500 ms and is left unread")
        found = process.line(r"closed after (\d+) ms: 4 B received, 0 B sent, peer ended first")
        assert int(found[1]) < 1000  # the default grace is 500 ms; the clock is netkit's own
        assert process.read_all() == b"bye\n"


@pytest.mark.parametrize("grace", ["0", "100ms"])
def test_grace_sets_how_long_idle_input_is_waited_for(grace: str) -> None:
    """A shorter grace leaves sooner; none leaves with the peer."""
    with (
        peer(lambda sock: sock.sendall(b"bye\n")) as server,
        running("connect", server.address, "-v", "--grace", grace) as process,
    ):
        assert process.wait(timeout=10) == 0
        assert int(process.line(r"closed after ([0-9]+)(?:\.\d)? ms")[1]) < 450


def test_hold_waits_for_the_end_of_input() -> None:
    """With --hold a server's end does not end us: what is typed later is still delivered."""
    ended = threading.Event()

    def half_close(sock: socket.socket) -> bytes:
        sock.shutdown(socket.SHUT_WR)
        ended.set()
        return read_all(sock)

    with peer(half_close) as server, running("connect", server.address, "--hold") as process:
        assert ended.wait(10)
        assert process.read_all() == b""  # our stdout ends with the server's end
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.8)  # longer than the grace that does not apply
        process.stdin.write(b"late")
        assert process.finish().code == 0
        assert server.result() == b"late"


def test_server_half_closes_while_20_mb_are_still_to_come() -> None:
    """Everything is delivered to a server that ended its own direction first."""
    data = os.urandom(BIG)

    def half_close(sock: socket.socket) -> str:
        sock.sendall(b"go")
        sock.shutdown(socket.SHUT_WR)
        return digest(read_all(sock))

    with peer(half_close) as server:
        assert netkit("connect", server.address, input=data) == Finished(0, b"go", "")
        assert server.result() == digest(data)


def test_server_half_closes_and_slow_input_still_arrives() -> None:
    """Input that comes in pieces is not idle, so grace never ends it."""
    go = threading.Semaphore(0)

    def half_close(sock: socket.socket) -> int:
        sock.shutdown(socket.SHUT_WR)
        total = 0
        while data := sock.recv(65536):
            total += len(data)
            go.release()
        return total

    with peer(half_close) as server, running("connect", server.address) as process:
        for _ in range(5):
            process.stdin.write(b"y" * 1000)
            assert go.acquire(timeout=10)
        assert process.finish() == Finished(0, b"", "")
        assert server.result() == 5000


def test_failing_send_is_55_and_counts_what_was_lost() -> None:
    """A server that stops reading and leaves makes exit code 55, and the message says how many bytes are lost."""
    with peer(lambda sock: jam(sock) or sock.recv(1000)) as server:
        done = netkit("connect", server.address, input=bytes(BIG))
    assert done.code == 55
    lost, offered = (int(word) for word in done.err.split("(")[1].split()[:3:2])
    assert 0 < lost <= offered <= BIG
    assert done.err == (
        f"netkit connect: cannot send to {server.address}: connection reset by peer "
        f"({lost} of {offered} bytes not acknowledged)\n"
    )


def test_20_mb_both_ways_at_once() -> None:
    """Neither direction stops the other, and both are whole."""
    ours, theirs = os.urandom(BIG), os.urandom(BIG)

    def both(sock: socket.socket) -> str:
        sender = threading.Thread(target=lambda: (sock.sendall(theirs), sock.shutdown(socket.SHUT_WR)))
        sender.start()
        found = digest(read_all(sock))
        sender.join()
        return found

    with peer(both) as server:
        done = netkit("connect", server.address, input=ours)
        assert (done.code, digest(done.out), done.err) == (0, digest(theirs), "")
        assert server.result() == digest(ours)


def test_stdout_ends_with_the_servers_end_while_we_still_send() -> None:
    """What reads our stdout goes on as soon as the server has ended."""

    def half_close(sock: socket.socket) -> bytes:
        sock.sendall(b"answer")
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)

    with peer(half_close) as server, running("connect", server.address, "--hold") as process:
        assert process.read_all() == b"answer"
        process.stdin.write(b"and more")
        assert process.finish().code == 0
        assert server.result() == b"and more"


def test_no_shutdown_keeps_our_direction_open() -> None:
    """The end of input is not sent, and we leave when the server ends."""

    def answer(sock: socket.socket) -> bytes:
        request = sock.recv(100)
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.sendall(b"answer")
        return request

    with peer(answer) as server:
        assert netkit("connect", server.address, "--no-shutdown", input=b"hi") == Finished(0, b"answer", "")
        assert server.result() == b"hi"


def test_send_only_leaves_once_all_is_acknowledged() -> None:
    """A server that never ends does not hold --send-only, and what it says is not shown."""
    done_reading = threading.Event()

    def hold(sock: socket.socket) -> bytes:
        sock.sendall(b"noise")
        data = read_all(sock)
        done_reading.wait(10)
        return data

    with peer(hold) as server:
        try:
            assert netkit("connect", server.address, "--send-only", input=b"x" * 100_000) == Finished(0, b"", "")
        finally:
            done_reading.set()
        assert server.result() == b"x" * 100_000


def test_recv_only_never_touches_stdin() -> None:
    """Input stays where it is for whoever reads it next, and the server sees no end of ours."""

    def answer(sock: socket.socket) -> None:
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.sendall(b"answer")

    read, write = os.pipe()
    os.write(write, b"untouched")
    os.close(write)
    with os.fdopen(read, "rb") as stdin, peer(answer) as server:
        assert netkit("connect", server.address, "--recv-only", stdin=stdin) == Finished(0, b"answer", "")
        assert stdin.read() == b"untouched"


# -- what is sent


@pytest.mark.parametrize(
    ("options", "typed", "wanted"),
    [
        (["--send", r"GET\r\n\x00\xff\\"], b"", b"GET\r\n\x00\xff\\"),
        (["--send", ""], b"", b""),
        (["--send", "é"], b"", "é".encode()),
        (["--send-hex", "00 ff0A"], b"", b"\x00\xff\n"),
        (["-C"], b"a\nb\r\nc\r", b"a\r\nb\r\nc\r"),
        (["--crlf", "--send", r"a\n"], b"", b"a\r\n"),
    ],
)
def test_what_is_sent(options: list[str], typed: bytes, wanted: bytes) -> None:
    """--send and --send-hex take stdin's place; --crlf changes lone line ends alone."""
    with peer(read_all) as server:
        assert netkit("connect", server.address, *options, input=typed) == Finished(0, b"", "")
        assert server.result() == wanted


def test_partial_line_goes_out_at_once() -> None:
    """Bytes are forwarded as they come, both ways, without waiting for a newline."""

    def answer(sock: socket.socket) -> None:
        assert sock.recv(100) == b"no newline"
        sock.sendall(b"here")
        assert sock.recv(100) == b"again"

    with peer(answer) as server, running("connect", server.address) as process:
        process.stdin.write(b"no newline")
        assert process.out.read(4) == b"here"
        process.stdin.write(b"again")
        assert process.finish().code == 0


# -- addresses


@pytest.mark.parametrize("form", ["127.0.0.1:{p}", "127.0.0.1 {p}", "localhost {p}", ":{p}", "LOCALHOST:{p}"])
def test_every_form_of_an_address_connects(form: str) -> None:
    """One word or two, name or number, or this machine."""
    with peer(read_all) as server:
        assert netkit("connect", *form.format(p=server.port).split(), input=b"x").code == 0
        assert server.result() == b"x"


@pytest.mark.parametrize("form", ["[::1]:{p}", "::1 {p}", "[::1] {p}", "-6 :{p}"])
def test_every_form_of_an_ipv6_address_connects(form: str) -> None:
    """With brackets or without, with a zone, or as the only family wanted."""
    with peer(read_all, host="::1") as server:
        assert netkit("connect", *form.format(p=server.port).split(), input=b"x").code == 0
        assert server.result() == b"x"


def test_service_name_is_a_port() -> None:
    """A name from the services table is looked up, and the failure names the number."""
    done = netkit("connect", "127.0.0.1", "tcpmux")
    assert done.code == 7
    assert "cannot connect to 127.0.0.1:1: connection refused" in done.err


def test_relative_unix_path_and_abstract_name(tmp_path: Path) -> None:
    """unix:PATH may be relative, and unix:@NAME has no file."""
    name = f"netkit-test-{os.getpid()}"
    for address, bound in (("unix:sock", str(tmp_path / "sock")), (f"unix:@{name}", f"\0{name}")):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(bound)
            listener.listen()
            with running("connect", address, cwd=tmp_path) as process:
                client, _ = listener.accept()
                with client:
                    process.stdin.write(b"ping")
                    process.stdin.close()
                    assert read_all(client) == b"ping"
                    client.sendall(b"pong")
                assert process.finish() == Finished(0, b"pong", "")


def test_source_is_our_end() -> None:
    """--source chooses address and port that the peer sees."""
    port = free_port()
    with peer(lambda sock: sock.getpeername()) as server:
        assert netkit("connect", server.address, "--source", f"127.0.0.9:{port}").code == 0
        assert server.result() == ("127.0.0.9", port)


def test_source_that_is_not_ours_is_45() -> None:
    """An address that this machine does not have cannot be bound."""
    done = netkit("connect", "127.0.0.1:9", "--source", "192.0.2.1")
    assert (done.code, done.err) == (
        45,
        "netkit connect: cannot use source 192.0.2.1:0: cannot assign requested address\n",
    )


# -- clocks


def test_wait_connects_once_the_server_is_there(tmp_path: Path) -> None:
    """--wait keeps trying while nobody listens."""
    path = tmp_path / "late.sock"
    with running("connect", f"unix:{path}", "--wait", "20s", "-vv") as process:
        process.line("again in")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            client, _ = listener.accept()
            with client:
                client.sendall(b"here")
        assert process.finish().out == b"here"


def test_wait_ends_with_28_and_the_last_reason() -> None:
    """What was wrong at the last try is what is said."""
    done = netkit("connect", f"127.0.0.1:{free_port()}", "--wait", "100ms")
    assert done.code == 28
    assert "still connection refused after 100 ms" in done.err


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--idle-timeout", "nothing moved for 200 ms (--idle-timeout)"),
        ("--timeout", "time ran out after 200 ms (--timeout)"),
    ],
)
def test_every_clock_is_28_and_says_which(option: str, reason: str) -> None:
    """A silent peer ends when the clock that was asked for runs out, is reset, and what came before is on stdout."""

    def hold(sock: socket.socket) -> type[OSError] | bytes:
        sock.sendall(b"some")
        try:
            return sock.recv(100)
        except OSError as error:
            return type(error)

    with peer(hold) as server, running("connect", server.address, option, "200ms") as process:
        assert process.wait() == 28
        assert server.result() is ConnectionResetError
        done = process.finish()
    assert done.out == b"some"
    assert done.err.startswith("netkit connect: cannot ")
    assert reason in done.err


def test_connect_timeout_of_a_black_hole_is_28() -> None:
    """A peer that drops our SYN is given up after -w, with the address in the message."""
    with full_backlog() as port:
        done = netkit("connect", f"127.0.0.1:{port}", "-w", "300ms")
    assert done == Finished(
        28, b"", f"netkit connect: cannot connect to 127.0.0.1:{port}: no answer within 300 ms (127.0.0.1)\n"
    )


def test_dead_first_address_costs_a_quarter_of_a_second() -> None:
    """Where ::1 drops our SYN and 127.0.0.1 answers, the second is tried 250 ms after the first, and wins."""
    with (
        peer(read_all) as server,
        full_backlog("::1", server.port),
        running("connect", f":{server.port}", "-vv") as process,
    ):
        process.line("trying ::1$")
        process.line("trying 127.0.0.1$")
        found = process.line(r"connected to 127\.0\.0\.1:\d+ from \S+ after (\d+) ms")
        assert 250 <= int(found[1]) < 900  # in line, it would have cost the 10 s of -w
        assert process.finish().code == 0


class full_backlog:
    """A port on loopback that drops every further SYN: its backlog is full and nobody accepts."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=0
        )
        self._fillers: list[socket.socket] = []

    def __enter__(self) -> int:
        address = self._listener.getsockname()
        for _ in range(4):
            filler = socket.socket(self._listener.family)
            filler.setblocking(False)
            filler.connect_ex(address)
            self._fillers.append(filler)
        port: int = address[1]
        return port

    def __exit__(self, *exc: object) -> None:
        for sock in (*self._fillers, self._listener):
            sock.close()


# -- what is said


def test_verbose_says_what_happened() -> None:
    """-vv names every address tried and the sum at the end; stdout has the payload alone."""
    with peer(lambda sock: sock.sendall(b"x" * 2048)) as server:
        done = netkit("connect", server.address, "-vv")
    assert done.out == b"x" * 2048
    lines = done.err.splitlines()
    assert lines[0] == "netkit connect: trying 127.0.0.1"
    assert lines[1].startswith(f"netkit connect: connected to {server.address} from 127.0.0.1:")
    assert lines[-1].startswith(f"netkit connect: {server.address} closed after ")
    assert "2.0 KiB received, 0 B sent" in lines[-1]


def test_quiet_leaves_the_exit_code_alone() -> None:
    """-q says nothing at all, on failure neither."""
    assert netkit("connect", "-q", f"127.0.0.1:{free_port()}") == Finished(7, b"", "")


def test_refused_names_target_reason_address_and_time() -> None:
    """One line says all there is to know."""
    port = free_port()
    done = netkit("connect", "127.0.0.1", str(port))
    assert done.code == 7
    head, _, tail = done.err.partition(", after ")
    assert head == f"netkit connect: cannot connect to 127.0.0.1:{port}: connection refused (127.0.0.1"
    assert tail.endswith(" ms)\n")


def test_failure_on_several_addresses_names_each() -> None:
    """When localhost refuses in both families, both are named."""
    done = netkit("connect", f":{free_port()}")
    assert done.code == 7
    assert "(::1, 127.0.0.1, after " in done.err


@pytest.mark.parametrize(
    ("behaviour", "typed", "code"),
    [
        (reset, b"", 56),
        (lambda sock: (sock.sendall(b"A" * 1000), sock.recv(1), reset(sock)), b"x", 56),
    ],
)
def test_reset_is_never_0(behaviour: Callable[[socket.socket], object], typed: bytes, code: int) -> None:
    """A connection that was reset says so, even where nothing of ours was lost."""
    with peer(behaviour) as server:
        done = netkit("connect", server.address, input=typed)
    assert done.code == code
    assert "connection reset by peer" in done.err
    assert done.out in (b"", b"A" * 1000)


def test_shell_pipeline_with_listen(tmp_path: Path) -> None:
    """The pipeline of every tutorial: one side listens into a file, the other sends one."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(300_000))
    command = (
        f'"$0" -m netkit listen 0 -q > "{target}" -- sh -c \'"$0" -m netkit connect $NETKIT_ADDRESS < "{source}"\' "$0"'
    )
    subprocess.run(["sh", "-c", command, NETKIT[0]], check=True, timeout=20, stdin=subprocess.DEVNULL)
    assert target.read_bytes() == source.read_bytes()


def test_urgent_data_is_not_lost() -> None:
    """TCP's urgent byte arrives in its place."""

    def urgent(sock: socket.socket) -> None:
        sock.sendall(b"ab")
        sock.send(b"X", socket.MSG_OOB)
        sock.sendall(b"cd")

    with peer(urgent) as server:
        assert netkit("connect", server.address) == Finished(0, b"abXcd", "")
