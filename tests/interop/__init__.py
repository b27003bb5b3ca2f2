"""netkit with other tools, as their client and as their server."""
