"""The table of faults and the tests that are marked with them are of one mind."""

from tests.faults.table import FAULTS, UNTESTED, covered

EVERY = [name for names in FAULTS.values() for name in names]


def test_each_fault_has_a_test_or_a_reason() -> None:
    """None is forgotten, and none that has a test is excused."""
    tests = covered()
    assert len(EVERY) == len(set(EVERY)) == 128
    assert {name for name in EVERY if name not in tests} == set(UNTESTED)
    assert all(UNTESTED.values())


def test_marks_are_names_of_the_table() -> None:
    """A mark that is spelled otherwise would count for nothing."""
    assert set(covered()) <= set(EVERY)
