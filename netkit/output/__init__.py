"""What a person or a script sees: it knows results, and neither sockets nor click."""
