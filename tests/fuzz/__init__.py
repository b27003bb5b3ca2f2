"""Bytes that nobody expects, for every parser: a little in the suite, and for long with ``python -m tests.fuzz``.

A target takes any bytes. It raises AssertionError where what was read is not what was meant, and lets nothing else
out: what netkit refuses is no failure.
"""
