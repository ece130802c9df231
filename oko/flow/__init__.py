"""The OpenFlow tables as plain data, their text syntax, and the switch that gives them their meaning."""
