"""Tables and live pictures on a terminal. Only they use rich."""
