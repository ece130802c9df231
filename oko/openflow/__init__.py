"""OpenFlow connections and what they serve."""
