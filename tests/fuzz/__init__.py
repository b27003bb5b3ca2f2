"""A fuzzer for every parser, run briefly in the suite and for longer with ``python -m tests.fuzz``.

A target takes any bytes. It raises AssertionError if they were parsed wrongly, and no other exception: bytes that
netkit refuses are no failure.
"""
