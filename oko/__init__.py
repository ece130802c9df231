"""Oko: a software switch whose match fields include eBPF filter programs."""

__version__ = "0.1.0"
