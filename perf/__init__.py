"""Benchmarks, their baselines, and their report: ``python -m perf --list``."""
