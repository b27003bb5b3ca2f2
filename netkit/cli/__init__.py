"""Parsing of the command line, and running a command. Only this package and the commands use click."""
