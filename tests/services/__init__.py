"""Tests of the services: handlers, changes, and what commands do without their options and output."""
