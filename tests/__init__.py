"""The tests of netkit: real processes and real peers where they start in a second."""

import pytest

# What tests share asserts too: so it says what it found, and does so under -O.
pytest.register_assert_rewrite("tests.support", "tests.contract", "tests.memory", "tests.clock")
