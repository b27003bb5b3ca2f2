"""Protocols: parsers, dialogues and handshakes over connections that the core has opened."""
