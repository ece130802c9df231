"""Running the packets of a capture file through the tables, without namespaces or ports."""
