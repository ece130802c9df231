"""What OVSDB says of a bridge, and what is changed there.

jsonrpc      requests over a Unix socket, as OVSDB and ovs-vswitchd take them
description  what OVSDB says of a bridge, as values
replica      the copy of OVSDB that the library `ovs` keeps
follower     follows the description of a bridge
transaction  one column of one row
"""
