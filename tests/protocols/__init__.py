"""Tests of the protocols, in memory."""
