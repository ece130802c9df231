"""The demonstration, and the network laboratory that it shares with the end-to-end tests and the benchmarks."""
