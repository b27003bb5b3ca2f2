"""``python -m tests.benchmarks [PART...]``: each of ``PARTS`` by its name; all of them unless named."""

import sys

from tests.benchmarks import bulk, datagrams, echo, fetch, ports, relay, secured, startup

PARTS = {
    "startup": startup.main,
    "bulk": bulk.main,
    "secured": secured.main,
    "relay": relay.main,
    "echo": echo.main,
    "datagrams": datagrams.main,
    "ports": ports.main,
    "fetch": fetch.main,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()
