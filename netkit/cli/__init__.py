"""How words become values, and how a command runs. click lives here and in the commands alone."""
