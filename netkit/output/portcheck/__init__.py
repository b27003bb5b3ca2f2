"""How a port check is written: lines for a person, formats for programs, a report of them all."""
