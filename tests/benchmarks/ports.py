"""All ports of loopback beside ``nmap -sT``; 1,000 ports that a firewall drops; and the same with few descriptors."""

import subprocess
import time

from tests.benchmarks.measure import NETKIT, Cost, available, medians, show, start, timed

ROUNDS = 5

# A network of its own, in which nothing but port 2000 answers.
FIREWALL = """
ip link set lo up
nft 'table inet f { chain i { type filter hook input priority 0; tcp dport 10000-10999 drop; }; }'
exec "$@"
"""
ALL = {"netkit": [*NETKIT, "portcheck", "127.0.0.1:1-65535"], "nmap": ["nmap", "-sT", "-p-", "-n", "-Pn", "127.0.0.1"]}
FILTERED = [*NETKIT, "portcheck", "127.0.0.1:10000-10999", "-w", "1s"]
FEW = ["prlimit", "--nofile=20"]


def once(argv: list[str]) -> dict[str, Cost]:
    """Run a command to its end; that ports are not open (7, 28) is what it is to find out."""
    since = time.perf_counter()
    return {"": timed(start(argv, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL), since, (0, 7, 28))}


def verdicts(argv: list[str]) -> list[str]:
    """Return host, port and state of each line."""
    done = subprocess.run([*argv, "--all"], capture_output=True, text=True)
    return sorted("\t".join(line.split("\t")[i] for i in (0, 1, 3)) for line in done.stdout.splitlines())


def main() -> None:
    """Measure and print."""
    separate = ["unshare", "-rn", "sh", "-ec", FIREWALL, "sh"]
    runs = {tool: (lambda tool=tool: once(ALL[tool])) for tool in available(ALL)}  # type: ignore[misc]
    rows = [(name, f"{roles[''].wall:.2f}", f"{roles[''].cpu:.2f}") for name, roles in medians(ROUNDS, runs).items()]
    show(f"65,535 ports of loopback, medians of {ROUNDS}, interleaved", ("", "wall s", "CPU s"), rows)
    if not available(["nft"]):
        return
    few = [*separate, *FEW]
    runs = {"as it is": lambda: once([*separate, *FILTERED])}
    cost = medians(ROUNDS, runs)["as it is"][""]
    rows = [("netkit -w 1s", f"{cost.wall:.2f}", f"{cost.cpu:.2f}")]
    show(f"1,000 filtered ports, medians of {ROUNDS}", ("", "wall s", "CPU s"), rows)
    ports = [*NETKIT, "portcheck", "127.0.0.1:9990-10029", "-w", "200ms"]
    since = time.perf_counter()
    many = verdicts([*separate, *ports])
    between = time.perf_counter()
    same = many == verdicts([*few, *ports])
    rows = [
        ("as it is", f"{between - since:.2f}", ""),
        ("20 descriptors", f"{time.perf_counter() - between:.2f}", "the same verdicts" if same else "OTHER VERDICTS"),
    ]
    show("30 filtered and 10 closed ports, -w 200ms", ("", "wall s", ""), rows)
