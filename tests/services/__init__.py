"""Handlers and changes."""
