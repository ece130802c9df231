"""Attached to Open vSwitch: what Oko knows of a bridge that stays Open vSwitch's.

jsonrpc       requests over a Unix socket, as OVSDB and ovs-vswitchd take them
unixctl       commands to ovs-vswitchd, as ovs-appctl gives them
description   what OVSDB says of a bridge, as values
features      what becomes of each feature of Open vSwitch when Oko is attached
ovsdb         follows the description of a bridge
shim          the frame that Oko wraps a packet in
plain         the rules that Open vSwitch holds, as a flow monitor tells of them
management    one OpenFlow connection to a bridge's management socket
upstream      okod's own connection, made again when it ends: plain rules, own rules, settling
marker        a frame that tells when those before it have left a port's queue
"""
