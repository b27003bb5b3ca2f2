"""Checking ports."""
