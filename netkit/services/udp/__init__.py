"""Sending, serving and relaying datagrams."""
