"""Readiness probes of portcheck: a dialogue for each protocol, by which a server shows whether it is ready."""
