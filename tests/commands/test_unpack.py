"""unpack: prints the values of complete records at once, and needs memory for one record only."""

import json
import random
import re
import signal
import struct
import subprocess

import pytest

from netkit.cli.app import run
from netkit.output.hexdump import dump
from tests.support import died_by, netkit, running
from tests.support.processes import peak_memory, pipeline, sound
from tests.support.refusals import refused
from tests.support.terminals import text_on_terminal

RECORD = struct.pack("!HIB", 80, 1, 255)


def objects(out: str) -> list[dict[str, object]]:
    """Return the objects in JSON Lines without their time, after a check that it is valid."""
    found = [json.loads(line) for line in out.splitlines()]
    for item in found:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", item.pop("time"))
    return found


# -- output


def test_one_record() -> None:
    """The values of a record are one line, separated by tabs."""
    assert netkit("unpack", "!HIB", input=RECORD) == (0, b"80\t1\t255\n", "")
    assert netkit("unpack", "u16:port u32:seq u8", input=RECORD) == (0, b"80\t1\t255\n", "")


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["!HIB", "0050", "00000001", "ff"], "80\t1\t255"),
        (["u16 ip:host str4 f32 hex", "0050 7f000001 6869 0000 7f800000 ff00"], "80\t127.0.0.1\thi\tinf\tff00"),
        (["str", "09411b5b5c0a c3a9 ff e280ae"], r"\tA\x1b[\\\n" + "\u00e9" + r"\xff\xe2\x80\xae"),
        (["4sp?c", "6869000000 01 41"], r"hi\0\0" + "\t\ttrue\tA"),
        (["str", ""], ""),
        (["<e f d".replace(" ", ""), "003c 0000c03f 000000000000f0ff"], "1.0\t1.5\t-inf"),
        (["4x", "01020304"], ""),
        (["--length", "u16", "u8 str", "0003 01 6869"], "1\thi"),
        (["--length", "u16le", "--repeat", "B", "0100 01 0100 02"], "1\n2"),
        (["--repeat", "B", "010203"], "1\n2\n3"),
        (["--repeat", "!H", ""], None),
    ],
)
def test_values(capfd: pytest.CaptureFixture[str], args: list[str], line: str | None) -> None:
    """The bytes may be given as hex words; values are escaped so that a record is one line."""
    assert run(["unpack", *args]) == 0
    assert capfd.readouterr() == ("" if line is None else line + "\n", "")


def test_json(capfd: pytest.CaptureFixture[str]) -> None:
    """--json prints one object for each record, with its offset and its values by name or position."""
    form = "u16:port ip:host str4:name u64 f32:ratio f32 hex:rest"
    words = ["0050", "7f000001", "68690000", "ff" * 8, "3fc00000", "7fc00000", "c0ff"]
    assert run(["unpack", "--json", form, *words]) == 0
    [record] = objects(capfd.readouterr().out)
    values = {"port": 80, "host": "127.0.0.1", "name": "hi", "4": 2**64 - 1, "ratio": 1.5, "6": "nan", "rest": "c0ff"}
    assert record == {"command": "unpack", "event": "record", "offset": 0, "values": values}


def test_json_of_many_records(capfd: pytest.CaptureFixture[str]) -> None:
    """Offsets count bytes of the input. Bytes are base64, with text if they are UTF-8; booleans are JSON booleans."""
    assert run(["unpack", "--json", "--repeat", "--length", "u8", "2s?", "03 686900", "03 ff1b01"]) == 0
    assert [(item["offset"], item["values"]) for item in objects(capfd.readouterr().out)] == [
        (1, {"1": {"data": "aGk=", "text": "hi"}, "2": False}),
        (5, {"1": {"data": "/xs="}, "2": True}),
    ]


def test_json_of_a_failure(capfd: pytest.CaptureFixture[str]) -> None:
    """With --json a failure is an object on stderr, after the complete records."""
    assert run(["unpack", "--json", "--repeat", "u16:port", "0050 00"]) == 18
    out, err = capfd.readouterr()
    assert [item["values"] for item in objects(out)] == [{"port": 80}]
    [failure] = objects(err)
    assert (failure["command"], failure["event"], failure["exit_code"]) == ("unpack", "error", 18)
    assert failure["error"] == {
        "kind": "partial",
        "message": "cannot unpack field 1 'port' (u16 at offset 2): the record ended after 1 of 2 bytes",
        "errno": None,
    }


def test_on_a_terminal() -> None:
    """On a terminal values and lines are escaped, and records without a FORMAT are dumped."""
    nasty = b"a\x1b[31m\x9b\t"
    frame = bytes([len(nasty)]) + nasty
    assert text_on_terminal("unpack", "str", input=nasty) == "a\\x1b[31m\\x9b\\t\n"
    assert text_on_terminal("unpack", "--length", "u8", input=frame) == dump(nasty)
    assert text_on_terminal("unpack", "--length", "u8", "--lines", input=frame * 2) == "a\\x1b[31m\\x9b\t\n" * 2


# -- frames


def test_frames_both_ways() -> None:
    """unpack reverses pack, for the whole input and for lines."""
    data = random.Random(7).randbytes(60_000)
    assert pipeline("netkit pack --length u16le | netkit unpack --length u16le", input=data) == (0, data, "")
    lines = b"\n".join([b"a", b"", b"\r", b"x" * 255, b"\xff\0"]) + b"\n"
    for length in ("u8", "u32"):
        done = pipeline('netkit pack --length "$1" --lines | netkit unpack --length "$1" --lines', length, input=lines)
        assert done == (0, lines, "")


def test_frames_as_bytes() -> None:
    """Without a FORMAT the records are written as bytes, one after the other."""
    assert netkit("unpack", "--length", "u16", "--repeat", input=b"\0\2a\n\0\0\0\1\xff") == (0, b"a\n\xff", "")


@pytest.mark.fault("record too short or too long")
@pytest.mark.parametrize(
    ("args", "out", "code", "message"),
    [
        (
            ["--length", "u16", "--repeat", "B", "0001 07 00"],
            "7\n",
            18,
            "cannot read the length of record 2 at offset 3",
        ),
        (["--length", "u8", "B", "01 07 01"], "", 8, "cannot read one record: more bytes follow at offset 2"),
        (["--length", "u8", "B", "02 07 08"], "", 8, "cannot unpack a record of 1 bytes: more follow at offset 2"),
        (["--length", "u8", "H", "01 07"], "", 18, "field 1 (H at offset 1): the record ended after 1 of 2 bytes"),
        (
            ["--length", "u32", "B", "ffffffff 01"],
            "",
            63,
            "it would be 4294967295 bytes, more than 16777216 (--max-size)",
        ),
        (["--length", "u8", "--max-size", "2", "str", "03 616263"], "", 63, "more than 2 (--max-size)"),
        (["--max-size", "2", "str", "616263"], "", 63, "it is more than 2 bytes (--max-size)"),
        (["!HIB", "0050 00000001"], "", 18, "field 3 (B at offset 6): the record ended after 0 of 1 bytes"),
        (["!HIB", "0050 00000001 ff 00"], "", 8, "cannot read one record: more bytes follow at offset 7"),
        (["--repeat", "u16:a u8:b", "0001 02 0003 04 00"], "1\t2\n3\t4\n", 18, "field 1 'a' (u16 at offset 6)"),
        (["4p", "09616263"], "", 8, "field 1 (4p at offset 0): it says that it has 9 bytes, and has room for 3"),
        (["999999999x"], "", 63, "it takes more than 16777216 bytes (--max-size)"),
    ],
)
def test_records_that_are_not_whole(
    capfd: pytest.CaptureFixture[str], args: list[str], out: str, code: int, message: str
) -> None:
    """A short record is exit code 18, a long one 8, a too large one 63; nothing of it is written."""
    assert run(["unpack", *args]) == code
    shown, err = capfd.readouterr()
    assert shown == out
    assert err.startswith("netkit unpack: cannot ") and err.count("\n") == 1
    assert message in err


def test_lines_of_records_that_are_two() -> None:
    """With --lines a record with a newline in it is an error; the records before are written."""
    done = sound(netkit("unpack", "--length", "u8", "--lines", input=b"\1a\3b\nc"), 8)
    assert done.out == b"a\n"
    assert done.err == "netkit unpack: cannot write the record at offset 3 as a line: there is a newline in it\n"


# -- streams


def test_each_record_at_once() -> None:
    """Each record is written as soon as its last byte has arrived, however the input is cut."""
    with running("unpack", "--repeat", "!HB") as process:
        for piece, line in (
            (b"\0", b""),
            (b"\1\2\0", b"1\t2\n"),
            (b"\3", b""),
            (b"\4" + b"\0\5\6" * 2, b"3\t4\n5\t6\n5\t6\n"),
        ):
            process.stdin.write(piece)
            assert process.out.read(len(line)) == line
        process.stdin.write(b"\0")
        done = sound(process.finish(), 18)
    assert done.out == b""
    assert "cannot unpack field 1 (H at offset 12): the record ended after 1 of 2 bytes" in done.err


def test_a_stream_without_bound() -> None:
    """64 MiB of records, with and without a length, need memory for only one of them."""
    block = bytes(1 << 20)
    rows: list[tuple[list[str], bytes]] = [
        (["--length", "u32", "--repeat"], len(block).to_bytes(4, "big")),
        (["--length", "u32", "--repeat", "1048574xH"], len(block).to_bytes(4, "big")),
        (["--repeat", "1048574xH"], b""),
    ]
    for args, head in rows:
        with running("unpack", *args, stdout=subprocess.DEVNULL, real=True) as process:
            for _ in range(64):
                process.stdin.write(head + block)
            assert peak_memory(process.pid) <= 40 << 20
            assert sound(process.finish(), 0).err == ""


def test_bad_input_ends_at_once() -> None:
    """Bad input ends unpack at once, while stdin is open."""
    for args, data, code in (
        (["--length", "u32"], b"\xff\xff\xff\xff", 63),
        (["B"], b"ab", 8),
        (["--max-size", "3", "str"], b"abcd", 63),
    ):
        with running("unpack", *args) as process:
            process.stdin.write(data)
            assert process.wait() == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it(number: signal.Signals) -> None:
    """unpack dies silently by the signal, after the complete records were written."""
    with running("unpack", "--repeat", "B") as process:
        process.stdin.write(b"\7")
        assert process.out.read(2) == b"7\n"
        process.signal(number)
        assert died_by(process.wait()) is number
        assert process.finish()[1:] == (b"", "")


def test_signals_that_were_ignored() -> None:
    """SIGHUP is ignored under nohup."""
    with running("unpack", "--repeat", "B", wrapper=("nohup",)) as process:
        process.stdin.write(b"\7")
        assert process.out.read(2) == b"7\n"
        process.signal(signal.SIGHUP)
        process.stdin.write(b"\x08")
        assert process.out.read(2) == b"8\n"
        assert process.finish().code == 0


def test_a_reader_that_leaves() -> None:
    """If the reader of stdout leaves, unpack dies silently by SIGPIPE, also while it waits for input."""
    with running("unpack", "--repeat", "B") as process:
        process.stdin.write(b"\7")
        assert process.out.read(2) == b"7\n"
        process.out.close()
        assert died_by(process.wait()) is signal.SIGPIPE
    done = pipeline("yes | tr -d '\\n' | { netkit unpack --repeat 2s; echo $? >&2; } | head -n 1")
    assert (done.code, done.out, done.err) == (0, b"yy\n", "141\n")


def test_stdout_that_fails_once_records_came() -> None:
    """On a full disk an endless stream ends with 23."""
    done = sound(pipeline("cat /dev/zero | netkit unpack --repeat Q > /dev/full"), 23)
    assert done.err == "netkit unpack: cannot write to stdout: no space left on device\n"


# -- mistakes


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "FORMAT is missing, such as '!HIB' or 'u16:port ip'"),
        (["--repeat"], "FORMAT is missing, such as '!HIB' or 'u16:port ip'"),
        (["B", "abc"], "'abc' is not pairs of hex digits"),
        (["str u8", "00"], "field 1 (str) needs a length, as str8 has: more follow"),
        (["--repeat", "str", "00"], "--repeat does not apply: the last field takes the rest"),
        (["--repeat", "0s", "00"], "--repeat does not apply: a record has no bytes"),
        (["--lines"], "--lines needs --length"),
        (["--length", "u64", "B", "07"], "--length: 'u64' is none of u8, u16, u32, nor these with le"),
        (["--max-size", "1k", "B", "07"], "--max-size: '1k' is not a size, such as 1500, 64K, 1M or 2G"),
        (["--hex", "B", "07"], "no such option '--hex'"),
    ],
)
def test_mistakes(capfd: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    """A usage error is exit code 2 and one line."""
    assert message in refused(capfd, "unpack", *args)
