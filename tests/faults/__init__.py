"""Tests of faults: of peers, the system, signals and networks."""
