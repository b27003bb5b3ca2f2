"""What bytes mean: handlers and changes that run over any stream."""
