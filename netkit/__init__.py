"""The netcat-style multitool: talk TCP, UDP and unix sockets from the shell."""

__version__ = "0.2.0"
