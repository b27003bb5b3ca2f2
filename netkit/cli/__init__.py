"""Parsing the command line and running a command. Only cli and the commands use click."""
