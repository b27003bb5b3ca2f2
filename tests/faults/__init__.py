"""How the world goes wrong, and what netkit does about it."""
