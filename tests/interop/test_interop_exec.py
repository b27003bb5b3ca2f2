"""``--exec`` and ``--sh-exec`` with other clients and servers."""

from pathlib import Path

from tests.support import NETKIT, running
from tests.support.data import DATA, check_same
from tests.support.partners import content, file_of, run, tcp_client, tcp_server


def test_answer_longer_than_the_question(tmp_path: Path) -> None:
    """A client that sends a line and half-closes gets all output of the program."""
    (tmp_path / "page").write_bytes(DATA)
    with running(
        "listen", "127.0.0.1:0", "--keep", "--sh-exec", f'read -r name; exec cat "{tmp_path}/$name"'
    ) as server:
        port = server.port
        for client in ("nc", "ncat", "socat"):
            result = run(tcp_client(client, port), b"page\n")
            check_same(result.out, DATA)
            assert (result.code, result.err) == (0, "")


def test_program_of_ours_talks_to_a_listening_socat() -> None:
    """A program of connect returns all data to socat, and connect has its exit code."""
    with file_of(DATA) as stdin, file_of() as stdout, tcp_server("socat", stdin=stdin, stdout=stdout) as (other, at):
        ours = run([*NETKIT, "connect", at, "--sh-exec", "cat; exit 5"])
        assert other.finish().code == 0
        check_same(content(stdout), DATA)
    assert ours == (5, b"", "")


def test_program_of_ours_sends_to_a_listening_ncat(tmp_path: Path) -> None:
    """ncat as the server gets all output of a program of connect."""
    (tmp_path / "page").write_bytes(DATA)
    with file_of() as stdin, file_of() as stdout, tcp_server("ncat", stdin=stdin, stdout=stdout) as (other, at):
        ours = run([*NETKIT, "connect", at, "--exec", f"cat '{tmp_path}/page'"])
        assert other.finish().code == 0
        check_same(content(stdout), DATA)
    assert ours == (0, b"", "")
