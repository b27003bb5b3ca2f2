"""``netkit connect`` from the command line: how it ends, what it sends, addresses, clocks and messages."""

import os
import queue
import re
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support import NETKIT, PATIENCE, Finished, free_port, netkit, peer, read_all, running
from tests.support.peers import full_backlog, is_silent, outlast, receive, server_socket
from tests.support.processes import settle

# -- how a conversation ends


@pytest.mark.fault("peer ends while input is open")
@pytest.mark.parametrize(("options", "grace"), [([], "500 ms"), (["--grace", "100ms"], "100 ms"), (["--grace=0"], "")])
def test_server_ends_while_input_is_open_and_idle(options: list[str], grace: str) -> None:
    """After the server's end connect waits for input half a second, or for --grace, and exits with 0."""
    with peer(lambda sock: sock.sendall(b"bye\n")) as there, running("connect", there.address, "-v", *options) as ours:
        assert ours.read_all() == b"bye\n"
        if grace:
            ours.line(f"input was idle for {grace} and is left unread")
        ours.line(r"closed after \S+ m?s: 4 B received, 0 B sent, peer ended first")
        assert ours.wait() == 0


def test_stdout_ends_with_the_servers_end_while_we_still_send() -> None:
    """Stdout is closed as soon as the server has ended, while connect still sends."""

    def half_close(sock: socket.socket) -> bytes:
        sock.sendall(b"answer")
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)

    with peer(half_close) as server, running("connect", server.address, "--hold") as process:
        assert process.read_all() == b"answer"
        process.stdin.write(b"and more")
        assert process.finish().code == 0
        assert server.result() == b"and more"


@pytest.mark.parametrize("option", ["--no-shutdown", "--recv-only"])
def test_our_direction_stays_open(option: str) -> None:
    """With --no-shutdown the end of stdin is not sent, and with --recv-only stdin is not read."""
    address, listener = server_socket("connect")
    read, write = os.pipe()
    with (
        listener,
        os.fdopen(read, "rb") as stdin,
        running("connect", address, option, stdin=stdin) as process,
        listener.accept()[0] as server,
    ):
        os.write(write, b"hi")
        os.close(write)
        if option == "--no-shutdown":
            assert receive(server, 2) == b"hi"
        settle(process)
        assert is_silent(server)
        server.sendall(b"answer")
        server.shutdown(socket.SHUT_WR)
        assert process.read_all() == b"answer"
        assert process.finish() == Finished(0, b"", "")
        assert stdin.read() == (b"hi" if option == "--recv-only" else b"")  # still there for the next reader


def test_send_only_leaves_once_all_is_acknowledged() -> None:
    """--send-only exits once all data is acknowledged, prints nothing, and does not wait for the server's end."""
    got: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def hold(sock: socket.socket) -> None:
        sock.sendall(b"noise")
        got.put(read_all(sock))
        outlast(sock)

    with peer(hold) as server:
        assert netkit("connect", server.address, "--send-only", input=b"x" * 100_000) == Finished(0, b"", "")
        assert got.get(timeout=PATIENCE) == b"x" * 100_000


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
    """--send and --send-hex replace stdin; --crlf changes LF, but not CR LF."""
    with peer(read_all) as server:
        assert netkit("connect", server.address, *options, input=typed) == Finished(0, b"", "")
        assert server.result() == wanted


# -- addresses


@pytest.mark.fault("IPv4 within IPv6")
@pytest.mark.parametrize(
    "form",
    ["127.0.0.1:{p}", "127.0.0.1 {p}", "localhost {p}", ":{p}", "LOCALHOST:{p}", "[::ffff:127.0.0.1]:{p}"],
)
def test_every_form_of_an_address_connects(form: str) -> None:
    """An address may be one word or two, with a name or a number, or only a port."""
    with peer(read_all) as server:
        assert netkit("connect", *form.format(p=server.port).split(), input=b"x").code == 0
        assert server.result() == b"x"


@pytest.mark.ipv6
@pytest.mark.fault("brackets")
@pytest.mark.parametrize("form", ["[::1]:{p}", "::1 {p}", "[::1] {p}", "-6 :{p}"])
def test_every_form_of_an_ipv6_address_connects(form: str) -> None:
    """IPv6 addresses work with brackets and, as two words, without; -6 selects the family."""
    with peer(read_all, host="::1") as server:
        assert netkit("connect", *form.format(p=server.port).split(), input=b"x").code == 0
        assert server.result() == b"x"


@pytest.mark.fault("name of a service for a port")
def test_service_name_is_a_port() -> None:
    """A port may be a service name, and messages have its number."""
    done = netkit("connect", "127.0.0.1", "tcpmux")
    assert done.code == 7
    assert "cannot connect to 127.0.0.1:1: connection refused" in done.err


def test_relative_unix_path_and_abstract_name(tmp_path: Path) -> None:
    """unix:PATH may be relative, and unix:@NAME is an abstract socket."""
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
    """--source sets our address and port."""
    port = free_port()
    with peer(lambda sock: sock.getpeername()) as server:
        assert netkit("connect", server.address, "--source", f"127.0.0.9:{port}").code == 0
        assert server.result() == ("127.0.0.9", port)


# -- clocks


def test_wait_connects_once_the_server_is_there(tmp_path: Path) -> None:
    """--wait tries again until the server listens."""
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
    """When --wait expires the exit code is 28, with the last reason."""
    done = netkit("connect", f"127.0.0.1:{free_port()}", "--wait", "100ms")
    assert done.code == 28
    # The last try may have had no time left for an answer.
    assert re.search(r": still (connection refused|no answer within \S+ m?s) after \d+ ms", done.err)


@pytest.mark.ipv6
@pytest.mark.fault("dead first address")
def test_dead_first_address_holds_up_nobody() -> None:
    """If ::1 does not answer, 127.0.0.1 is tried soon after and used, long before -w ends (Happy Eyeballs)."""
    port = free_port()
    words = ("connect", f":{port}", "-w", "1h", "-vv")
    with peer(read_all, port=port), full_backlog("::1", port), running(*words) as process:
        process.line("trying ::1$")
        process.line("trying 127.0.0.1$")
        process.line(r"connected to 127\.0\.0\.1:\d+ from ")
        assert process.finish().code == 0


# -- messages


def test_verbose_says_what_happened() -> None:
    """-vv prints each address tried and the totals; stdout has only the payload."""
    with peer(lambda sock: sock.sendall(b"x" * 2048)) as server:
        done = netkit("connect", server.address, "-vv")
    assert done.out == b"x" * 2048
    lines = done.err.splitlines()
    assert lines[0] == "netkit connect: trying 127.0.0.1"
    assert lines[1].startswith(f"netkit connect: connected to {server.address} from 127.0.0.1:")
    assert lines[-1].startswith(f"netkit connect: {server.address} closed after ")
    assert "2.0 KiB received, 0 B sent" in lines[-1]


@pytest.mark.ipv6
def test_failure_on_several_addresses_names_each() -> None:
    """If both addresses of localhost refuse, the message has both."""
    done = netkit("connect", f":{free_port()}")
    assert done.code == 7
    assert "(::1, 127.0.0.1, after " in done.err


def test_shell_pipeline_with_listen(tmp_path: Path) -> None:
    """The usual pipeline: one side listens and writes a file, the other sends one."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(300_000))
    command = (
        f'"$0" -m netkit listen 0 -q > "{target}" -- sh -c \'"$0" -m netkit connect $NETKIT_ADDRESS < "{source}"\' "$0"'
    )
    subprocess.run(["sh", "-c", command, NETKIT[0]], check=True, timeout=20, stdin=subprocess.DEVNULL)
    assert target.read_bytes() == source.read_bytes()
