"""What the author of a filter program works with: a skeleton, the compiler, and a table of packets as its test."""
