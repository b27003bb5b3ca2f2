"""Measurements beside other tools. Nothing is asserted here, and pytest runs none of it."""
