"""pack: bytes in a pipe, a dump on a terminal, and errors for values that do not fit."""

import contextlib
import fcntl
import os
import signal
import socket
import struct
import sys
from pathlib import Path

import pytest

from netkit.cli.app import run
from netkit.output.hexdump import dump
from tests.support import died_by, netkit, running
from tests.support.partners import dnsmasq
from tests.support.processes import pipeline, sound
from tests.support.refusals import refused
from tests.support.terminals import text_on_terminal

# -- output


def test_bytes_in_a_pipe() -> None:
    """A pipe gets the bytes and nothing else."""
    done = netkit("pack", "!HIB", "80", "1", "255")
    assert done == (0, struct.pack("!HIB", 80, 1, 255), "")
    assert netkit("pack", "4x").out == bytes(4)


def test_stdin_is_left_alone() -> None:
    """With a FORMAT pack does not read stdin, which is left for the next command."""
    done = pipeline("netkit pack --hex B 7; cat", input=b"left")
    assert done == (0, b"07\nleft", "")


@pytest.mark.parametrize(
    ("args", "out"),
    [
        (["--hex", "u16:port u32le:seq ip str", "80", "7", "10.0.0.1", r"h\ni"], "0050070000000a000001680a69\n"),
        (["--hex", "d", "-.5"], "bfe0000000000000\n"),
        (["--hex", "2f", "-inf", "nan"], "ff8000007fc00000\n"),
        (["--hex", "str", r"\x2dx"], "2d78\n"),
        (["--hex", "str", ""], "\n"),
        (["--hex", "str", "@/etc/passwd %s%n ~ *"], b"@/etc/passwd %s%n ~ *".hex() + "\n"),
        (["--hex", "--length", "u16", "!HI", "80", "1"], "0006005000000001\n"),
        (["--hex", "--length", "u32le", "str", "hi"], "020000006869\n"),
    ],
)
def test_hex(capfd: pytest.CaptureFixture[str], args: list[str], out: str) -> None:
    """--hex prints a record on one line; negative numbers, and text that looks like an option or a file, are values."""
    assert run(["pack", *args]) == 0
    assert capfd.readouterr() == (out, "")


def test_dump_on_a_terminal() -> None:
    """On a terminal pack prints offsets, hex and ASCII; each record begins a new line."""
    data = bytes(range(40))
    assert text_on_terminal("pack", "hex", data.hex()) == dump(data)
    shown = text_on_terminal("pack", "--length", "u8", "--lines", input=b"hello\nworld\n")
    assert shown == dump(b"\5hello") + dump(b"\5world", 6)
    assert text_on_terminal("pack", "--hex", "H", "1") == "0001\n"


@pytest.mark.parametrize(
    ("form", "word", "in_hex", "native"),
    [
        ("i", "1234", "1234 = 0x4d2", struct.pack("@i", 1234)),
        ("!i", "0x4d2", "1234 = 0x4d2", struct.pack("@i", 1234)),
        ("h", "-5", "-5 = -0x5", struct.pack("@h", -5)),
        ("d", "1.5", "1.5 = 0x3ff8000000000000", struct.pack("@d", 1.5)),
        ("u32le:seq", "1", "1 = 0x1", struct.pack("=I", 1)),
        ("f32", "-inf", "-inf = 0xff800000", struct.pack("=f", float("-inf"))),
    ],
)
def test_show(capfd: pytest.CaptureFixture[str], form: str, word: str, in_hex: str, native: bytes) -> None:
    """--show prints a number in decimal, hex, and as bytes in each byte order."""
    assert run(["pack", "--show", form, word]) == 0
    head, machine, blank, *rows = capfd.readouterr().out.splitlines()
    assert (head, blank) == (in_hex, "")
    assert machine == f"native is {sys.byteorder}-endian here, the network is big-endian"
    little = native if sys.byteorder == "little" else native[::-1]
    expected = {"native": native, "little": little, "big": little[::-1]}
    assert [row.split()[0] for row in rows] == list(expected)
    for row, data in zip(rows, expected.values(), strict=True):
        assert row[8:].startswith(data.hex(" ") + "  ") and row.endswith("  " + repr(data))
        assert len(row) <= 80


def test_show_of_native_sizes(capfd: pytest.CaptureFixture[str]) -> None:
    """The standard size of a long is 4 bytes, whatever its native size, and a pointer has only a native size."""
    assert run(["pack", "--show", "l", "1"]) == 0
    rows = capfd.readouterr().out.splitlines()[3:]
    assert [row.rpartition("  ")[2] for row in rows] == [repr(struct.pack(mark + "l", 1)) for mark in "@<>"]
    assert run(["pack", "--show", "@P", "1"]) == 0
    [row] = capfd.readouterr().out.splitlines()[3:]
    assert row.startswith("native") and row.endswith(repr(struct.pack("@P", 1)))


# -- filters


def test_a_conversation_of_filters() -> None:
    """Packed bytes can be sent by connect, and the answer unpacked."""
    with running("echo", "127.0.0.1:0", "--once") as server:
        line = "netkit pack '!HIB' 80 1 255 | netkit connect \"$1\" | netkit unpack '!HIB'"
        assert pipeline(line, f"127.0.0.1:{server.port}") == (0, b"80\t1\t255\n", "")


OVER_TCP = ("--length u16", "netkit connect 127.0.0.1 $1", "--length u16")
OVER_UDP = ("--hex", "netkit udp-send 127.0.0.1 $1 --hex --replies 1 --wait 20s", "")


@pytest.mark.parametrize(("packing", "asking", "unpacking"), [OVER_TCP, OVER_UDP], ids=["tcp", "udp"])
def test_a_dns_query_is_answered(packing: str, asking: str, unpacking: str) -> None:
    """dnsmasq answers a packed DNS query over TCP, with a length before the message, and over UDP."""
    query = f"netkit pack {packing} '!6H 8p5px 2H' 4660 0x100 1 0 0 0 example test 1 1"
    answer = (
        "u16:id u16:flags u16:questions u16:answers hex4 hex18 u16 u16:type u16:class u32:ttl u16:length ip:address"
    )
    with dnsmasq("--address=/example.test/192.0.2.7") as port:
        done = pipeline(f"{query} | {asking} | netkit unpack {unpacking} '{answer}'", str(port))
    question = b"\7example\4test\0\0\1\0\1".hex().encode()
    assert done == (0, b"4660\t34176\t1\t1\t00000000\t" + question + b"\t49164\t1\t1\t0\t4\t192.0.2.7\n", "")


def test_lines_are_framed_as_they_come() -> None:
    """With --lines each line is written as soon as it is complete, while stdin is open."""
    with running("pack", "--length", "u16", "--lines") as process:
        process.stdin.write(b"he")
        process.stdin.write(b"llo\n\nwo")
        assert process.out.read(9) == b"\0\5hello\0\0"
        process.stdin.write(b"rld")
        process.stdin.close()
        assert process.read_all() == b"\0\5world"
        assert process.wait() == 0


def test_whole_input_as_one_record() -> None:
    """Without --lines all of stdin is one record, newlines included; empty input is an empty record."""
    data = os.urandom(65535)
    assert netkit("pack", "--length", "u16", input=data) == (0, b"\xff\xff" + data, "")
    assert netkit("pack", "--length", "u32le", input=b"") == (0, bytes(4), "")


def test_records_that_are_too_long() -> None:
    """If stdin is too long for its length field, nothing is written; with --lines the lines before are written."""
    long = b"x" * 256
    done = sound(netkit("pack", "--length", "u8", input=long), 2)
    assert (done.out, done.err) == (
        b"",
        "netkit pack: a record of more than 255 bytes does not fit a length of 8 bits\n",
    )
    done = sound(netkit("pack", "--length", "u8", "--lines", input=b"a\n" + long), 63)
    assert (done.out, done.err) == (b"\1a", "netkit pack: cannot frame line 2: it is more than 255 bytes (--length)\n")


# -- mistakes


@pytest.mark.fault("value that does not fit")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "FORMAT is missing, such as '!HIB' or 'u16:port ip'"),
        (["--hex"], "FORMAT is missing, such as '!HIB' or 'u16:port ip'"),
        (["B", "300"], "field 1 (B at offset 0): 300 is not between 0 and 255"),
        (["u16:port", "70000"], "field 1 'port' (u16 at offset 0): 70000 is not between 0 and 65535"),
        (["H", "\uff18\uff10"], "field 1 (H at offset 0): '\\uff18\\uff10' is not a whole number"),
        (["HB", "1"], "field 2 (B at offset 2) has no value: 1 given, 2 wanted"),
        (["HB", "1", "2", "3"], "value 3 '3' has no field: the format has 2 and ends at offset 3"),
        (["5s", "ho\x1b[31mst\n"], "field 1 (5s at offset 0): 'ho\\x1b[31mst\\n' is 10 bytes, more than 5"),
        (["u24", "1"], "format 'u24' is neither fields of u8 u16"),
        (["!Z", "1"], "format '!Z' is no struct format: 'Z' is no code"),
        (["x" * 100_000 + "Z"], "'Z' is no code"),
        (["--length", "u24", "B", "1"], "--length: 'u24' is none of u8, u16, u32, nor these with le"),
        (["--length", "u8", "256x"], "a record of more than 255 bytes does not fit a length of 8 bits"),
        (["--max-size", "0", "B", "1"], "--max-size: '0' is not a size, such as 1500, 64K, 1M or 2G"),
        (["--lines"], "--lines needs --length"),
        (["--show"], "FORMAT is missing"),
        (["--show", "HB", "1", "2"], "--show takes the format of one number, such as i or u32, not 'HB'"),
        (["--show", "ip", "127.0.0.1"], "--show takes the format of one number, such as i or u32, not 'ip'"),
        *((["--show", form, "1"], f"format {form!r}: 'P' is native alone, begin with @") for form in ("P", "!P", "=P")),
        *(
            (["--show", form, "1"], f"--show takes the format of one number, such as i or u32, not {form!r}")
            for form in ("f16", "i1", "u128")
        ),
        (["--show", "i"], "field 1 (i at offset 0) has no value: 0 given, 1 wanted"),
        (["--show", "u16", "70000"], "field 1 (u16 at offset 0): 70000 is not between 0 and 65535"),
        (["--show", "i", "1", "2"], "value 2 '2' has no field"),
        (["--show", "i", str(2**31)], "is not between -2147483648 and 2147483647"),
        (["B", "1", "--", "2"], "words after '--' would be a command to run, and there is none here"),
        (["str", "-x"], "no such option '-x'"),
        (["--lenght", "u8"], "no such option '--lenght', did you mean '--length'?"),
    ],
)
def test_mistakes(capfd: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    """A usage error is exit code 2 and one line with the field and its offset, and nothing is written."""
    assert message in refused(capfd, "pack", *args)


def test_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    """With -q there is no output, only the exit code."""
    assert run(["pack", "-q", "999999999x"]) == 63
    assert capfd.readouterr() == ("", "")


@pytest.mark.fault("format that takes too much")
@pytest.mark.parametrize("form", ["999999999x", "4294967295s", "1000000000B", "u8 str4294967295", "9" * 100_000 + "x"])
def test_bombs_are_63(capfd: pytest.CaptureFixture[str], form: str) -> None:
    """A format of more than --max-size is exit code 63, whatever its values."""
    for args in ([], ["1", "2"]):
        message = refused(capfd, "pack", form, *args, code=63)
        assert message.startswith(f"cannot use format '{form[:40]}") and "it takes more than 16777216 bytes" in message
    for words in (("HIB", "1", "2", "3"), ("str", "12345")):
        assert "more than 4 bytes" in refused(capfd, "pack", "--max-size", "4", *words, code=63)


@pytest.mark.fault("format that takes too much")
def test_bombs_take_no_memory() -> None:
    """Huge formats and lengths are refused in little memory and time."""
    small = ("prlimit", f"--data={64 << 20}", "--cpu=2")
    assert sound(netkit("pack", "999999999x", wrapper=small), 63).out == b""
    assert sound(netkit("pack", "B" * 60_000, "1", wrapper=small), 2).out == b""
    assert sound(netkit("unpack", "--length", "u32", input=b"\xff\xff\xff\xff0123456789", wrapper=small), 63).out == b""


# -- stdin and stdout


def test_stdout_that_fails() -> None:
    """A full disk is exit code 23, and a reader that left is a silent SIGPIPE."""
    with open("/dev/full", "wb") as full:
        done = sound(netkit("pack", "B", "1", stdout=full), 23)
    assert done.err == "netkit pack: cannot write to stdout: no space left on device\n"
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = netkit("pack", "B", "1", stdout=writing)
    finally:
        os.close(writing)
    assert (died_by(done.code), done.err) == (signal.SIGPIPE, "")


def test_stdout_cut_off_by_a_limit(tmp_path: Path) -> None:
    """At a file size limit the bytes that fit are written, and the exit code is 23."""
    with open(tmp_path / "file", "wb") as file:
        done = sound(
            netkit("pack", "--length", "u32", input=bytes(5000), stdout=file, wrapper=("prlimit", "--fsize=1000")), 23
        )
    assert done.err == "netkit pack: cannot write to stdout: file too large\n"
    assert (tmp_path / "file").read_bytes() == (5000).to_bytes(4, "big") + bytes(996)


def test_stdin_that_cannot_be_read() -> None:
    """A stdin that cannot be read is exit code 26, and not an empty record."""
    reading, writing = os.pipe()
    with open(os.devnull, "wb") as null:
        for stdin in (null.fileno(), writing):
            done = sound(netkit("pack", "--length", "u8", stdin=stdin), 26)
            assert (done.out, done.err) == (b"", "netkit pack: cannot read stdin: bad file descriptor\n")
    os.close(reading)
    os.close(writing)


def test_descriptors_that_do_not_block() -> None:
    """Non-blocking stdin and stdout work, and stay non-blocking."""
    with contextlib.ExitStack() as stack:
        theirs, ours = socket.socketpair()
        stack.enter_context(theirs)
        stack.enter_context(ours)
        theirs.setblocking(False)
        data = os.urandom(1 << 20)
        process = stack.enter_context(running("pack", "--length", "u32", stdin=theirs, stdout=theirs))
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        theirs_flags = fcntl.fcntl(theirs, fcntl.F_GETFL)
        got = b""
        while len(got) < len(data) + 4:
            got += ours.recv(1 << 16)
        assert process.wait() == 0
        assert got == len(data).to_bytes(4, "big") + data
        assert theirs_flags & os.O_NONBLOCK and fcntl.fcntl(theirs, fcntl.F_GETFL) == theirs_flags
