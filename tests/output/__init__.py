"""Tests of what netkit prints, for people and for scripts."""
