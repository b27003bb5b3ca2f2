"""Benchmarks, in comparison with other tools. They assert nothing, and pytest does not run them."""
