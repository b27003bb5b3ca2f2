"""Tables and moving pictures on a terminal. rich lives here alone."""
