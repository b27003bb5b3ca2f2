"""The core, on streams in memory and on loopback."""
