"""Decides off-line whether a filter program is safe: instruction set, front end, checks, interpreter."""
