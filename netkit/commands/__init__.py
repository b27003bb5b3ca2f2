"""One file, one command; the group finds them by listing this folder."""
