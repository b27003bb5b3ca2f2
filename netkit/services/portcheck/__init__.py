"""Checking ports, and whether the services behind them are ready."""
