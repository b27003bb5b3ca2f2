"""Tests of the command line: options, rules, help, completion."""
