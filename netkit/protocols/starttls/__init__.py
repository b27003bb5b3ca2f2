"""STARTTLS: the plain-text dialogues before a TLS handshake, a function for each protocol."""
