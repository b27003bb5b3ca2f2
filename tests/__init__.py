"""The tests of netkit, with real processes and real peers if these start within a second."""

import pytest

# Rewrite the assertions in shared modules too, so that they show values and also work under -O.
pytest.register_assert_rewrite("tests.support", "tests.contract", "tests.memory", "tests.clock")
