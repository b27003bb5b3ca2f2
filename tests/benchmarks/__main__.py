"""``python -m tests.benchmarks [PART...]``: startup, bulk, secured, echo, datagrams, ports; all unless named."""

import sys

from tests.benchmarks import bulk, datagrams, echo, ports, secured, startup

PARTS = {
    "startup": startup.main,
    "bulk": bulk.main,
    "secured": secured.main,
    "echo": echo.main,
    "datagrams": datagrams.main,
    "ports": ports.main,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()
