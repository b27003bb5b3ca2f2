"""How many examples a property test tries. The profile of ``.ci/test quick`` has a tenth of the examples."""

from hypothesis import settings


def examples(count: int) -> settings:
    """Settings that try ``count`` examples where other tests try 100."""
    return settings(max_examples=max(1, count * settings.default.max_examples // 100))
