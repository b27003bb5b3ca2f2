"""STARTTLS: the plain dialogues that end with the handshake of TLS, a function for each protocol."""
