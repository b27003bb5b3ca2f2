"""Packing values into bytes, and unpacking them: formats, framing, and the filter loop."""
