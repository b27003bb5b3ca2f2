"""``python -m tests.faults`` prints the faults and the tests of each."""

from tests.faults.table import FAULTS, UNTESTED, covered

if __name__ == "__main__":
    tests = covered()
    for title, names in FAULTS.items():
        print(f"\n{title}")
        for name in names:
            first, *others = tests.get(name) or [f"none: {UNTESTED.get(name, '?')}"]
            print(f"  {name:<42} {first}" + (f" and {len(others)} more" if others else ""))
    every = [name for names in FAULTS.values() for name in names]
    print(f"\n{sum(name in tests for name in every)} of {len(every)} have a test")
