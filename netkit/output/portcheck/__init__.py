"""The results of a port check: lines, formats for programs, and the report that writes them."""
