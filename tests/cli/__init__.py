"""Tests of the command line: words, rules, help."""
