"""Probes: what a server is asked to find out whether it is ready, a dialogue for each protocol."""
