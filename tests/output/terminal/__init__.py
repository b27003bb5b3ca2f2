"""Tests of tables and progress on a terminal."""
