"""Attached to Open vSwitch: what Oko knows of a bridge that stays Open vSwitch's.

unixctl       commands to ovs-vswitchd, as ovs-appctl gives them
features      what becomes of each feature of Open vSwitch when Oko is attached
near_end      what is done to the ends of the ports, and given back
guard         lets no shim leave by a port
port_settings what OpenFlow has set of ports and OVSDB does not tell
endpoint      where controllers and tools find the bridge: the socket's name, the controllers' targets
plain_mod     a change of plain rules, as a controller asks for it
record        what was changed of Open vSwitch, on disk
detach        gives it back
shim          the frame that Oko wraps a packet in
plain         the rules that Open vSwitch holds, as a flow monitor tells of them
management    one OpenFlow connection to a bridge's management socket
upstream      okod's own connection, made again when it ends: plain rules, own rules, settling
marker        a frame that tells when those before it have left a port's queue
shim_id       the numbers of shims
continuation  the rules that continue a packet in Open vSwitch
precedence    which plain rules stand above a filter rule
filter_table  the rules of the image, and what they would become
order         carries changes out at the two places
filter_rules  the filter rules, as controllers ask for them
ovsdb         what OVSDB says of the bridge
relay         what stands between its controllers and Open vSwitch
attachment    okod attached to a bridge, from start to end
"""
