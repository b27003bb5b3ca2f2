"""The table of faults agrees with the marks of the tests."""

from tests.faults.table import FAULTS, UNTESTED, covered

EVERY = [name for names in FAULTS.values() for name in names]


def test_each_fault_has_a_test_or_a_reason() -> None:
    """Each fault has a test or a reason in ``UNTESTED``, not both."""
    tests = covered()
    assert len(EVERY) == len(set(EVERY)) == 128
    assert {name for name in EVERY if name not in tests} == set(UNTESTED)
    assert all(UNTESTED.values())


def test_marks_are_names_of_the_table() -> None:
    """Each mark has the name of a fault in the table."""
    assert set(covered()) <= set(EVERY)
