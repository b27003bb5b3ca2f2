"""``python -m tests.benchmarks [--quick] [--to FOLDER] [PART...]`` runs the benchmarks of each PART, by default all.

It prints tables, and at the end writes FOLDER/benchmarks.md and benchmarks.svg. FOLDER is docs by default; with
--quick or PART nothing is written without --to. A full run takes about 15 minutes.
"""

import argparse
from pathlib import Path

from tests.benchmarks import bulk, datagrams, echo, fetch, ports, records, relay, report, secured, startup
from tests.benchmarks.measure import FULL, QUICK

PARTS = {
    "startup": startup.measure,
    "bulk": bulk.measure,
    "secured": secured.measure,
    "relay": relay.measure,
    "echo": echo.measure,
    "datagrams": datagrams.measure,
    "ports": ports.measure,
    "records": records.measure,
    "fetch": fetch.measure,
}
DOCS = Path(__file__).parents[2] / "docs"


def main() -> None:
    """Run the benchmarks, and print and write the results."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--quick", action="store_true", help="do little of everything, to see that it works")
    parser.add_argument("--to", type=Path, help="the folder for benchmarks.md and benchmarks.svg")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=", ".join(PARTS))
    args = parser.parse_args()
    folder = args.to or (None if args.quick or args.parts else DOCS)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    works = []
    for name in args.parts or PARTS:
        for work in PARTS[name](QUICK if args.quick else FULL):
            if work.tools:
                works.append(work)
                print(report.table(work), flush=True)
    if folder is not None and works:
        (folder / "benchmarks.md").write_text(report.markdown(works, report.machine()), encoding="utf-8")
        (folder / "benchmarks.svg").write_text(report.svg(works), encoding="utf-8")


if __name__ == "__main__":
    main()
