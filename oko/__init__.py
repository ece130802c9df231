"""Oko: a software switch whose match fields include eBPF filter programs."""
