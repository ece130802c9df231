"""A virtual machine with Debian's 6.1 kernel, for the tests that load BPF: ``make test-old-kernel``.

The guest sees the host's root file system, read-only, under an overlay in its own memory. It therefore runs the
host's Python, tools and this repository, and nothing that it writes comes out.
"""
