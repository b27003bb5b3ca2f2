"""The tests of netkit: real processes and real peers where they start in a second."""
