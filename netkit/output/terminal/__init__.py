"""Tables and live pictures on a terminal. Only this package uses rich."""
