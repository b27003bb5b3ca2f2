"""STARTTLS: the plain-text dialogues before a TLS handshake, which end when it is to begin, one for each protocol."""
