"""``python -m tests.benchmarks [PART...]``: startup, bulk, secured, echo, datagrams; all of them unless named."""

import sys

from tests.benchmarks import bulk, datagrams, echo, secured, startup

PARTS = {
    "startup": startup.main,
    "bulk": bulk.main,
    "secured": secured.main,
    "echo": echo.main,
    "datagrams": datagrams.main,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()
