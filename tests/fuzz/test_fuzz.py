"""Runs each target of the fuzzer briefly; ``python -m tests.fuzz`` does it for longer."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.mutations import mutated, near
from tests.fuzz.targets import TARGETS
from tests.support.properties import examples


@pytest.mark.fault("any bytes for parsers")
@pytest.mark.parametrize("name", TARGETS)
@given(st.data())
@examples(30)
def test_any_bytes(name: str, data: st.DataObject) -> None:
    """Any bytes are parsed rightly or refused."""
    run, seeds = TARGETS[name]
    run(data.draw(near(seeds)))


@pytest.mark.parametrize(("name", "seed"), [(name, seed) for name, target in TARGETS.items() for seed in target.seeds])
def test_seeds(name: str, seed: bytes) -> None:
    """Each seed is accepted by its target, and mutations make different inputs of it."""
    run, seeds = TARGETS[name]
    run(seed)
    chance = random.Random(name)
    assert len({mutated(seeds, chance) for _ in range(20)}) > 10
