"""What OpenFlow 1.0, with Nicira's extensions, says differently."""
