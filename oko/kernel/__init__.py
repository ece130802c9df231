"""The only room that talks to Linux: BPF objects, bpffs, network interfaces and namespaces.

Arguments and results are primitive values; nothing here knows of flows, images or filter programs.
"""
