"""The certificates of the tests of TLS."""

from tests.commands.tls import pki

__all__ = ["pki"]
