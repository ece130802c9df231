"""What stands between the controllers of an attached bridge and Open vSwitch.

relays      the relays of a bridge
relay       stands between one peer and its own connection to Open vSwitch
end         one of the two connections of a relay
requests    what becomes of a peer's requests on their way
replies     what becomes of Open vSwitch's replies
bundles     what becomes of bundles
statistics  what becomes of statistics
pending     what Open vSwitch has been sent and has not answered yet
dialect     what a relay knows of the messages of a version of OpenFlow
plane       what the relays of a bridge share
reserved    what of rules is Oko's own and refused to others
entrance    how packets of controllers come in by the ports that carry the XDP program
"""
