"""resolve in its own network: dnsmasq as the system's resolver and nsd as a server, compared with dig and getent."""

import base64
import json
import re
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import NETKIT, PATIENCE, Finished, free_port, netkit, peer, running
from tests.support.namespaces import separate
from tests.support.peers import address, udp
from tests.support.processes import resolver, tool
from tests.support.refusals import mistake

ZONE = r"""
$ORIGIN zone.test.
$TTL 300
@ SOA ns hostmaster 1 2 3 4 5
@ NS ns
@ MX 10 mail
@ MX 5 other.example.
@ CAA 0 issue "ca.example"
ns A 127.0.0.1
www CNAME both
both A 192.0.2.1
both A 192.0.2.2
both AAAA 2001:db8::1
four A 192.0.2.4
*.wild TXT "any"
_x A 192.0.2.5
0/25 TXT "half"
four RRSIG A 8 3 300 20300101000000 20200101000000 1 zone.test. AAAA
text TXT "plain" "with \"quotes\" and \\"
evil TXT "\027]0;PWNED\007" "line\010::error::forged" "\255\128\226\128\174"
_sip._tcp SRV 1 2 5060 both
loop1 CNAME loop2
loop2 CNAME loop1
far CNAME elsewhere.example.
big TXT "{filler}"
big TXT "1{filler}"
big TXT "2{filler}"
big TXT "3{filler}"
big TXT "4{filler}"
big TXT "5{filler}"
big TXT "6{filler}"
""".replace("{filler}", "x" * 240)

REVERSE = r"""
$ORIGIN 2.0.192.in-addr.arpa.
$TTL 300
@ SOA ns.zone.test. hostmaster.zone.test. 1 2 3 4 5
@ NS ns.zone.test.
1 PTR both.zone.test.
9 PTR \027[31mred\010forged.zone.test.
"""

NSD = """
server:
  ip-address: 127.0.0.1@5300
  username: ""
  zonesdir: "{folder}"
  pidfile: ""
  database: ""
  zonelistfile: "{folder}/zones"
  xfrdfile: ""
  do-ip6: no
remote-control:
  control-enable: no
zone:
  name: zone.test
  zonefile: zone
zone:
  name: 2.0.192.in-addr.arpa
  zonefile: reverse
zone:
  name: broken.test
  zonefile: nosuch
"""

# Runs in its own network and mount namespaces; the open stdin keeps them alive.
SCRIPT = """
echo 'nameserver 127.0.0.1' > "$1/resolv.conf"
echo '127.0.0.1 localhost hosts.test' > "$1/hosts"
mount --bind "$1/resolv.conf" /etc/resolv.conf
mount --bind "$1/hosts" /etc/hosts
nsd -d -c "$1/nsd.conf" > "$1/nsd.log" 2>&1 &
servers=$!
dnsmasq --no-daemon --conf-file=/dev/null --no-resolv --listen-address=127.0.0.1 --pid-file= \
  --server=/zone.test/127.0.0.1#5300 --server=/broken.test/127.0.0.1#5300 --server=/192.in-addr.arpa/127.0.0.1#5300 \
  --server=/silent.test/127.0.0.1#5301 --local=/test/ > "$1/dnsmasq.log" 2>&1 &
servers="$servers $!"
socat -u UDP-RECV:5301 OPEN:/dev/null > /dev/null 2>&1 &
servers="$servers $!"
"$2" -m netkit portcheck 127.0.0.1:53,5300 --wait 20s --interval 20ms -q
echo ready >&2
read -r _ || kill $servers
wait
"""


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Start the servers; yield the wrapper that runs a command beside them."""
    for name in ("dnsmasq", "nsd", "dig", "unshare", "nsenter"):
        tool(name)
    folder = tmp_path_factory.mktemp("dns")
    (folder / "zone").write_text(ZONE)
    (folder / "reverse").write_text(REVERSE)
    (folder / "nsd.conf").write_text(NSD.format(folder=folder))
    with running(argv=[*separate("ip link set lo up"), "sh", "-c", SCRIPT, "sh", str(folder), NETKIT[0]]) as servers:
        servers.line("ready")
        yield ["nsenter", "-t", str(servers.pid), "-U", "-n", "-m", "--preserve-credentials"]
        servers.finish()


def lines(result: Finished) -> list[str]:
    """Return the lines of stdout of a run without errors."""
    assert (result.code, result.err) == (0, "")
    return result.out.decode().splitlines()


def told(inside: list[str], *argv: str) -> list[str]:
    """Return the lines that another tool prints when it runs beside the servers."""
    return subprocess.run([*inside, *argv], capture_output=True, text=True, timeout=PATIENCE).stdout.splitlines()


SERVER = ("--server", "127.0.0.1:5300")


# -- the system's resolver


def test_addresses_are_those_of_getent(inside: list[str]) -> None:
    """The addresses are those of getent, each once, and the first is the same."""
    names = ["both.zone.test", "www.zone.test", "four.zone.test", "localhost"]
    found = [line.split("\t") for line in lines(netkit("resolve", *names, wrapper=inside))]
    for name in names:
        rows = [row.split() for row in told(inside, "getent", "ahosts", name)]
        wanted = [row[0] for row in rows if row[1] == "STREAM"]
        ours = [value for each, value in found if each == name]
        assert (sorted(ours), ours[0]) == (sorted(wanted), wanted[0])


def test_several_names(inside: list[str]) -> None:
    """With several names each line begins with its name, in the order given; a failure is one line and exit code 6."""
    result = netkit(
        "resolve", "four.zone.test", "nosuch.zone.test", "-", input=b"localhost\n\n192.0.2.1", wrapper=inside
    )
    assert result.out == b"four.zone.test\t192.0.2.4\nlocalhost\t127.0.0.1\n192.0.2.1\tboth.zone.test\n"
    assert (result.code, result.err) == (6, "netkit resolve: cannot resolve nosuch.zone.test: name not found\n")


def test_names_are_answered_as_they_come(inside: list[str]) -> None:
    """Names on stdin are answered while it is open; a bad one is exit code 26, and the next ones are answered."""
    with running("resolve", "-", wrapper=inside) as process:
        process.stdin.write(b"localhost\n")
        assert process.out.read(20) == b"localhost\t127.0.0.1\n"
        process.stdin.write(b"a..b\nhosts.test")
        result = process.finish()
    assert (result.code, result.out) == (26, b"hosts.test\t127.0.0.1\n")
    assert result.err == "netkit resolve: cannot resolve a..b: host 'a..b' has an empty label\n"


def test_canonical_and_service(inside: list[str]) -> None:
    """--canonical prints the name that the aliases lead to, and --service adds the port to each address."""
    assert lines(netkit("resolve", "--canonical", "www.zone.test", wrapper=inside)) == ["both.zone.test"]
    found = lines(netkit("resolve", "--service", "https", "www.zone.test", wrapper=inside))
    assert sorted(found) == ["192.0.2.1:443", "192.0.2.2:443", "[2001:db8::1]:443"]


def test_reverse(inside: list[str]) -> None:
    """An address is looked up in reverse; one without a name, or whose name is no host name, is exit code 6."""
    assert lines(netkit("resolve", "192.0.2.1", wrapper=inside)) == ["both.zone.test"]
    for host in ("192.0.2.7", "192.0.2.9"):
        result = netkit("resolve", host, wrapper=inside)
        assert (result.code, result.out) == (6, b"")
        assert result.err == f"netkit resolve: cannot resolve {host}: no name\n"
    mixed = netkit("resolve", "192.0.2.1", "localhost", "-4", wrapper=inside)  # -4 is for the name
    assert mixed == (0, b"192.0.2.1\tboth.zone.test\nlocalhost\t127.0.0.1\n", "")


@pytest.mark.fault("DNS says no")
@pytest.mark.parametrize(
    ("args", "reasons", "code"),
    [
        (
            ["nosuch.zone.test", "text.zone.test", "x.broken.test"],
            ["name not found", "no IP address", "temporary failure of the resolver"],
            6,
        ),
        (
            ["nosuch.zone.test", "four.zone.test", "hosts.test", "-6"],
            ["name not found", "no IPv6 address", "no IPv6 address"],
            6,
        ),
        (["x.silent.test", "-w", "100ms"], ["no answer within 100 ms"], 28),
        (["x.silent.test", "--type", "A", "-w", "100ms"], ["no answer within 100 ms (127.0.0.1:53)"], 28),
    ],
)
def test_failures_are_told_apart(inside: list[str], args: list[str], reasons: list[str], code: int) -> None:
    """Name not found, no such family, temporary failure and no answer (28) each have their own message."""
    result = netkit("resolve", *args, wrapper=inside)
    wanted = [f"netkit resolve: cannot resolve {name}: {why}\n" for name, why in zip(args, reasons, strict=False)]
    assert result == (code, b"", "".join(wanted))


def test_silent_resolver_ends_with_the_clock_and_by_a_signal(inside: list[str]) -> None:
    """--timeout and SIGINT end resolve while the resolver hangs."""
    late = netkit("resolve", "x.silent.test", "--timeout", "200ms", wrapper=inside)
    assert (late.code, late.out) == (28, b"")
    assert late.err == "netkit resolve: cannot finish: time ran out after 200 ms (--timeout)\n"
    with running("resolve", "localhost", "x.silent.test", wrapper=inside) as process:
        process.out.read(1)
        process.signal(signal.SIGINT)
        assert process.wait() == -signal.SIGINT


def test_silent_resolver_holds_no_other_port_up(inside: list[str]) -> None:
    """portcheck reports the other ports while one name gets no answer; that one is unknown, and with --wait 28."""
    result = netkit("portcheck", "x.silent.test:80", "four.zone.test:1", "hosts.test:1", "-w", "2s", wrapper=inside)
    rows = [line.split("\t") for line in result.out.decode().splitlines()]
    assert [row[0] for row in rows][-1] == "x.silent.test"
    assert rows[-1][3:] == ["unknown", "-", "no answer of the resolver within 2 s"]
    assert sorted(row[3] for row in rows[:2]) == ["closed", "unreachable"]
    alone = netkit("portcheck", "x.silent.test:80", "--wait", "200ms", wrapper=inside)
    assert alone.code == 28
    assert "; not ready: x.silent.test:80 (no answer of the resolver within " in alone.err.splitlines()[-1]


def test_this_machine(inside: list[str]) -> None:
    """Without a name it prints this machine's name and addresses, or fails with 6 if the name has no address."""
    result = netkit("resolve")
    assert result.out.decode().startswith(f"hostname\t{socket.gethostname()}\n") or result.code == 6


def test_json(inside: list[str]) -> None:
    """--json prints one object for each address or record, with the query."""
    found = [json.loads(line) for line in lines(netkit("resolve", "www.zone.test", "--json", "-6", wrapper=inside))]
    assert [(each["event"], each["host"], each["address"], each["family"]) for each in found] == [
        ("address", "www.zone.test", "2001:db8::1", "ipv6")
    ]
    assert found[0]["canonical"] == "both.zone.test"
    args = ["resolve", "zone.test", "--type", "mx", *SERVER, "--json"]
    found = [json.loads(line) for line in lines(netkit(*args, wrapper=inside))]
    assert sorted(each["value"] for each in found) == ["10 mail.zone.test.", "5 other.example."]
    assert {(each["type"], each["ttl_s"], each["server"], each["protocol"]) for each in found} == {
        ("MX", 300, "127.0.0.1:5300", "udp")
    }
    [told] = map(json.loads, lines(netkit("resolve", "192.0.2.9", "--service", "www", "--json")))
    assert (told["address"], told["port"], told["family"]) == ("192.0.2.9", 80, "ipv4")
    done = netkit("resolve", "nosuch.zone.test", "-", *SERVER, "--json", wrapper=inside, input=b"no.zone.test")
    failures = [json.loads(line) for line in done.err.splitlines()]
    assert [(each["host"], each["exit_code"]) for each in failures] == [("nosuch.zone.test", 6), ("no.zone.test", 6)]


def test_strings_of_a_record_in_json(inside: list[str]) -> None:
    """In JSON a TXT record has its strings, and their concatenation as text, or as bytes if it is not UTF-8."""
    found = lines(netkit("resolve", "text.zone.test", "evil.zone.test", "--type", "TXT", "--json", wrapper=inside))
    text, evil = map(json.loads, found)
    assert text["strings"] == ["plain", 'with "quotes" and \\']
    assert text["text"] == 'plainwith "quotes" and \\'
    assert evil["strings"][1:] == ["line\n::error::forged", r"\xff\x80" + "\u202e"]
    assert ("text" in evil, base64.b64decode(evil["data"])[-5:]) == (False, b"\xff\x80\xe2\x80\xae")


# -- --expect and --wait


@pytest.mark.parametrize(
    ("args", "lacks"),
    [
        (["www.zone.test", "--expect", "192.0.2.2", "--expect", "2001:DB8:0:0::1"], ""),
        (["www.zone.test", "--expect", "192.0.2.2", "--expect", "192.0.2.3", *SERVER], "192.0.2.3"),
        (["four.zone.test", "--service", "80", "--expect", "192.0.2.4"], ""),
        (["www.zone.test", "--canonical", "--expect", "BOTH.zone.test."], ""),
        (["192.0.2.1", "--expect", "both.zone.test", *SERVER], ""),
        (["zone.test", "--type", "MX", "--expect", "5 OTHER.example", "--expect", "10 mail.zone.test."], ""),
        (["zone.test", "--type", "MX", "--expect", "05 mail.zone.test."], "05 mail.zone.test."),
        (["text.zone.test", "--type", "TXT", "--expect", '"plain" "with \\"quotes\\" and \\\\"'], ""),
        (["text.zone.test", "--type", "TXT", "--expect", 'plainwith "quotes" and \\'], ""),
        (["text.zone.test", "--type", "TXT", "--expect", "plain"], "plain"),
    ],
)
def test_what_is_expected_is_among_the_answers(inside: list[str], args: list[str], lacks: str) -> None:
    """--expect compares values, not spellings; a missing one is exit code 8, with the answers in the message."""
    result = netkit("resolve", *args, wrapper=inside)
    if lacks:
        start = f"netkit resolve: cannot resolve {args[0]}: no {lacks} among the answers ("
        assert (result.code, result.out, result.err[: len(start)]) == (8, b"", start)
    else:
        assert lines(result)


def test_name_is_waited_for(inside: list[str]) -> None:
    """--wait repeats the look-up until the name exists."""
    with running("resolve", "later.test", "--wait", "20s", "--interval", "20ms", "-vv", wrapper=inside) as process:
        process.line("cannot resolve later.test: name not found; again in 20 ms")
        told(inside, "sh", "-c", "echo 127.0.0.3 later.test >> /etc/hosts")
        result = process.finish()
    assert (result.code, result.out) == (0, b"127.0.0.3\n")
    assert "the system's resolver answered for later.test in " in result.err


def test_waiting_ends(inside: list[str]) -> None:
    """When --wait expires the exit code is 28, and each name has its last failure."""
    args = ["--expect", "127.0.0.9", "--wait", "1s", "--interval", "2s"]
    result = netkit("resolve", "hosts.test", "nosuch.zone.test", *args, wrapper=inside)
    assert (result.code, result.out) == (28, b"")
    assert result.err.splitlines() == [
        "netkit resolve: cannot resolve hosts.test: still no 127.0.0.9 among the answers after 1 s (127.0.0.1)",
        "netkit resolve: cannot resolve nosuch.zone.test: still name not found after 1 s",
    ]


# -- DNS itself


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        *((kind, ["zone.test"]) for kind in ("MX", "NS", "SOA", "CAA")),
        ("A", ["both.zone.test", "four.zone.test"]),
        ("AAAA", ["both.zone.test"]),
        ("SRV", ["_sip._tcp.zone.test"]),
        ("CNAME", ["www.zone.test"]),
        ("TXT", ["text.zone.test", "evil.zone.test", "big.zone.test"]),
        ("PTR", ["1.2.0.192.in-addr.arpa", "9.2.0.192.in-addr.arpa"]),
    ],
)
def test_records_are_those_of_dig(inside: list[str], kind: str, names: list[str]) -> None:
    """Each type of record is printed as dig prints it, from nsd and through dnsmasq."""
    queries = [word for name in names for word in (name, kind)]
    wanted = told(inside, "dig", "+short", "@127.0.0.1", "-p", "5300", *queries)
    assert len(wanted) >= len(names)
    asked = () if kind in ("MX", "TXT") else SERVER
    found = lines(netkit("resolve", *names, "--type", kind, *asked, wrapper=inside))
    assert sorted(line.rpartition("\t")[2] for line in found) == sorted(wanted)


def test_server_alone_gives_addresses(inside: list[str]) -> None:
    """With --server and no type it prints both families of addresses, or the name of an address."""
    found = lines(netkit("resolve", "www.zone.test", *SERVER, wrapper=inside))
    assert sorted(found) == ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
    assert lines(netkit("resolve", "-6", "www.zone.test", *SERVER, wrapper=inside)) == ["2001:db8::1"]
    found = lines(netkit("resolve", "four.zone.test", "192.0.2.1", *SERVER, wrapper=inside))
    assert found == ["four.zone.test\t192.0.2.4", "192.0.2.1\tboth.zone.test."]
    assert lines(netkit("resolve", "www.zone.test", "--canonical", *SERVER, wrapper=inside)) == ["both.zone.test"]


def test_an_answer_that_is_cut_is_asked_for_over_tcp(inside: list[str]) -> None:
    """A truncated answer is asked for again over TCP."""
    args = ["resolve", "big.zone.test", "--type", "TXT", *SERVER]
    found = [json.loads(line) for line in lines(netkit(*args, "--json", wrapper=inside))]
    assert [each["protocol"] for each in found] == ["tcp"] * 7
    assert {len(each["value"]) for each in found} == {242, 243}
    told = netkit(*args, "-vv", wrapper=inside).err
    assert "127.0.0.1:5300 cut its answer short; asking 127.0.0.1:5300 over tcp\n" in told
    assert re.search(r"127\.0\.0\.1:5300 answered for big\.zone\.test TXT over tcp in [\d.]+ ms\n$", told)


@pytest.mark.fault("DNS says no")
def test_dns_failures_are_told_apart(inside: list[str]) -> None:
    """NXDOMAIN, no data, SERVFAIL, REFUSED, alias loops and dangling aliases are 6, each with its own message."""
    reasons = {
        "nosuch.zone.test": "name not found (127.0.0.1:5300)",
        "four.zone.test": "no AAAA record (127.0.0.1:5300)",
        "x.broken.test": "temporary failure of the server (SERVFAIL) (127.0.0.1:5300)",
        "example.org": "the server refuses to answer (REFUSED) (127.0.0.1:5300)",
        "loop1.zone.test": "its aliases never end (127.0.0.1:5300)",
        "far.zone.test": "no AAAA record (127.0.0.1:5300, elsewhere.example, its canonical name)",
    }
    result = netkit("resolve", *reasons, "--type", "AAAA", *SERVER, wrapper=inside)
    wanted = [f"netkit resolve: cannot resolve {name}: {reason}\n" for name, reason in reasons.items()]
    assert result == (6, b"", "".join(wanted))


def test_text_of_dns_forges_nothing(inside: list[str]) -> None:
    """Control characters and bytes beyond ASCII in records are escaped, so that a record is one printable line."""
    for args in (["evil.zone.test", "--type", "TXT"], ["192.0.2.9"], ["192.0.2.9", "--json"]):
        [line] = lines(netkit("resolve", *args, *SERVER, wrapper=inside))
        assert line.isascii() and line.isprintable()


# -- misbehaving servers


SEVEN, EIGHT = ((1, bytes([127, 0, 0, number])) for number in (7, 8))  # A records


@contextmanager
def server(answer: Callable[[bytes], list[bytes]], port: int = 0) -> Iterator[str]:
    """Run a DNS server over UDP with these answers; yield its address."""
    with udp(port=port) as sock:

        def serve() -> None:
            while True:
                query, client = sock.recvfrom(4096)
                if not query:
                    return
                for reply in answer(query):
                    sock.sendto(reply, client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield address(sock)
        finally:
            sock.sendto(b"", sock.getsockname())
            thread.join(PATIENCE)


def reply(query: bytes, *records: tuple[int, bytes], flags: int = 0x8180) -> bytes:
    """Return an answer with these records, each a type and its data."""
    head = query[:2] + struct.pack("!5H", flags, 1, len(records), 0, 0) + query[12 : query.index(b"\0", 12) + 5]
    return head + b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data for kind, data in records)


def ask(server: str, *args: str) -> Finished:
    """Run resolve for an A record from this server."""
    return netkit("resolve", "x.example", "--type", "A", "--server", server, *args)


def test_forged_answers_are_not_heard() -> None:
    """Answers with another id, to another question or malformed are ignored; the right one is taken."""

    def answer(query: bytes) -> list[bytes]:
        other_id = bytes([query[0] ^ 1]) + query[1:]
        other_name = query.replace(b"\1x\7example", b"\1y\7example")
        good = reply(query, SEVEN)
        cut = reply(query, (1, b"\1\2\3"), SEVEN)[:-2]
        forged = [reply(other_id, EIGHT), reply(other_name, EIGHT), query, b"", b"nonsense", good[:20], b"\0" * 40, cut]
        return [*forged, good]

    with server(answer) as place:
        assert ask(place) == (0, b"127.0.0.7\n", "")


def test_a_late_answer_counts() -> None:
    """An answer to the first query is taken, although the query was repeated meanwhile; the server answers it once."""
    queries: list[bytes] = []

    def answer(query: bytes) -> list[bytes]:
        queries.append(query)
        return [reply(queries[0], SEVEN)] if len(queries) == 2 else []

    with server(answer) as place:
        done = ask(place, "-vv", "--json")
    assert (done.code, json.loads(done.out)["address"], len(queries)) == (0, "127.0.0.7", 2)
    again, told = map(json.loads, done.err.splitlines())
    assert (again["event"], told["event"]) == ("asked_again", "replied")
    assert told["time_ms"] >= 1000  # since the first query


def test_answer_is_waited_for() -> None:
    """--wait asks the server until the expected value is among its answers."""
    records = iter([SEVEN, EIGHT])
    with server(lambda query: [reply(query, next(records))]) as place:
        assert ask(place, "--expect", "127.0.0.8", "--wait", "20s") == (0, b"127.0.0.8\n", "")


def test_record_that_cannot_be_read_is_shown_as_bytes() -> None:
    """A record that cannot be parsed is shown as bytes, and the other one as usual."""
    with server(lambda query: [reply(query, (1, b"\1\2\3"), SEVEN)]) as place:
        assert ask(place) == (0, b"127.0.0.7\n\\# 3 010203\n", "")
    ech = bytes.fromhex("0001 00 0005 0002 0007")  # 1 . ech=, whose two bytes are no list of configurations
    with server(lambda query: [reply(query, (65, ech))]) as place:
        [found] = lines(netkit("resolve", "x.example", "--type", "HTTPS", "--server", place))
        assert found in (rf"\# {len(ech)} {ech.hex()}", '1 . ech="AAc="')  # older versions of dnspython accept it


@pytest.mark.parametrize("code", [2, 3, 4])
def test_server_that_fails_for_one_type(code: int) -> None:
    """Addresses of one family are shown, although the server has only an error for the other (RFC 4074, section 4)."""

    def answer(query: bytes) -> list[bytes]:
        is_ipv4 = query[query.index(b"\0", 12) + 2] == 1
        return [reply(query, SEVEN) if is_ipv4 else reply(query, flags=0x8180 | code)]

    with server(answer) as place:
        assert netkit("resolve", "x.example", "--server", place) == (0, b"127.0.0.7\n", "")
        assert netkit("resolve", "x.example", "-6", "--server", place).code == 6


def test_server_that_is_not_there() -> None:
    """A refused datagram is reported at once."""
    place = f"127.0.0.1:{free_port()}"
    result = ask(place, "-w", "1h")
    assert result == (6, b"", f"netkit resolve: cannot resolve x.example: connection refused ({place})\n")


def test_stream_that_ends_early_is_8() -> None:
    """If the answer over TCP is cut off too, resolve fails."""
    port = free_port()
    with peer(lambda client: None, port=port), server(lambda query: [reply(query, SEVEN, flags=0x8380)], port) as place:
        result = ask(place)
    assert result.code in (6, 8)
    assert result.err.startswith("netkit resolve: cannot resolve x.example: ")


# -- mistakes


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["a..b"], "has an empty label"),
        (["db:80"], "name 'db:80' has a port: write db"),
        (["http://me:secret@db/"], "name 'http://...@db/' is a URL: write its host alone"),
        (["@127.0.0.1"], "name '@127.0.0.1' is how dig names a server: --server 127.0.0.1"),
        (["x", "--type", "NOSUCH"], "type 'NOSUCH' is none of DNS"),
        (["x", "--type", "AXFR"], "type 'AXFR' is no type of record"),
        (["x", "--type", ""], "type '' is none of DNS"),
        (["127.0.0.1", "--type", "MX"], "is an address, and has no MX record"),
        (["127.0.0.1", "-6"], "host '127.0.0.1' is an address, whose name is of no family: leave out -4 and -6"),
        (["x", "--service", "nosuch"], "neither a number nor a known service"),
        (["x", "--server", "tls:tls:127.0.0.1"], "says tls: twice"),
        (["x", "--server", "tls:unix:/run/x"], "is a unix socket"),
        (["x", "--server", "127.0.0.1:0"], "port 0 is not between 1 and 65535"),
        (["x", "--server", "http://127.0.0.1/"], "server 'http://127.0.0.1/' is not secured"),
        (["x", "--server", "https:///q"], "URL 'https:///q'"),
        (["x", "--server", "https://me:secret@h:0/"], "URL 'https://...@h:0/': port 0 is not between"),
        (["x", "--expect", "y"], "value 'y' is no address, as the answers for 'x' are"),
        (["127.0.0.1", "--expect", "::1"], "value '::1' is an address, and the answer for '127.0.0.1' is a name"),
        (["x", "-4", "--expect", "::1"], "value '::1' is no IPv4 address"),
        (["x", "--type", "MX", "--expect", "y"], "value 'y' is none of type MX"),
        (["x", "--type", "A", "--expect", "127.1"], "value '127.1' is none of type A"),
        (["-t", "MX", "x"], "no such option '-t': --type MX"),
        (["x", "--", "true"], "words after '--'"),
        *(([name, "--type", "TXT"], repr(name)) for name in ("a..b", "a b", "127.1", "h:80")),
        (["*.a..b", "--type", "TXT"], "host 'a..b' has an empty label"),
        (["*." + "x." * 126 + "x", "--type", "TXT"], "name of 255 bytes is too long: *.x.x.x"),
        (["x" * 64, "--type", "TXT"], "longer than 63"),
    ],
)
def test_mistakes(capfd: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    """A usage error is one line and exit code 2, without any look-up."""
    line = mistake(capfd, ["resolve", *args])
    assert line.startswith("netkit resolve: ")
    assert message in line


def test_quiet() -> None:
    """With -q there is no output, only the exit code."""
    assert netkit("resolve", "-q", "localhost") == (0, b"", "")
    assert netkit("resolve", "-q", "nosuch.invalid") == (6, b"", "")


@pytest.mark.fault("host beyond ASCII")
def test_beyond_ascii() -> None:
    """An internationalized name is asked for and shown as its A-label."""
    resolver()
    result = netkit("resolve", "b\u00fccher.invalid")
    assert result == (6, b"", "netkit resolve: cannot resolve xn--bcher-kva.invalid: name not found\n")


# -- unusual names and records


@pytest.mark.parametrize(
    "name, kind, wanted",
    [
        ("*.wild.zone.test.", "TXT", '"any"'),
        ("what.wild.zone.test", "TXT", '"any"'),
        ("_x.zone.test", "A", "192.0.2.5"),
        ("0/25.zone.test", "TXT", '"half"'),
        ("four.zone.test", "RRSIG", "A 8 3 300 20300101000000 20200101000000 1 zone.test. AAAA"),
    ],
)
def test_names_and_types_that_are_of_dns_alone(inside: list[str], name: str, kind: str, wanted: str) -> None:
    """With --type, names that are no host names and records like RRSIG can be asked for."""
    assert lines(netkit("resolve", name, "--type", kind, *SERVER, wrapper=inside)) == [wanted]


def test_search_list_counts(inside: list[str], tmp_path: Path) -> None:
    """The search list of resolv.conf applies, unless the name ends with a dot. What makes no name is left out."""
    (tmp_path / "resolv.conf").write_text(f"nameserver 127.0.0.1\nsearch nowhere.test a..b {'x' * 64} zone.test\n")
    script = 'mount --bind "$1" /etc/resolv.conf; shift; exec "$@"'
    beside = [*inside, "unshare", "-m", "sh", "-ec", script, "sh", str(tmp_path / "resolv.conf")]
    long = ".".join(["x" * 60] * 4)
    done = netkit("resolve", "four", "nosuch", "four.", long, "--type", "A", wrapper=beside)
    assert (done.code, done.out) == (6, b"four\t192.0.2.4\n")
    assert re.findall("cannot resolve (.*): ", done.err) == ["nosuch", "four.", long]
    other = netkit("resolve", "four", "--type", "AAAA", wrapper=beside)
    assert (other.code, other.err.partition(" (")[0]) == (
        6,
        "netkit resolve: cannot resolve four.zone.test: no AAAA record",
    )
