"""Random flow_mods in the syntax of ovs-ofctl, such as every switch takes: what is refused is tested elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

PORTS = (1, 2, 3)
_DONE = 3
"""Ways to do something with packets of one shape."""
_KINDS = ("any", "any", "arp", "ip", "tcp", "udp", "sctp", "icmp", "ip6", "tcp6", "udp6", "mpls")
_WITH_PORTS = frozenset({"tcp", "udp", "sctp", "tcp6", "udp6"})
_COMMANDS = {"add": 80, "modify_strict": 8, "delete_strict": 6, "modify": 4, "delete": 2}
"""How often they come."""


@dataclass(frozen=True, slots=True)
class Flow:
    """The match of a rule, and what its actions depend on: its shape, and whether the packets have a tag. `kind` is
    ovs-ofctl's abbreviation of their protocol."""

    shape: int
    kind: str
    tagged: bool
    table: int
    priority: int
    match: str

    @property
    def place(self) -> str:
        """Its table and its match."""
        return ",".join(filter(None, (f"table={self.table}" if self.table else "", self.match)))

    @property
    def name(self) -> str:
        """That, and its priority: what names it to a strict command."""
        return f"{self.place},priority={self.priority}"


def _mac(random: Random) -> str:
    return f"02:00:00:00:00:{random.randrange(256):02x}"


def _ipv4(shape: Random, random: Random) -> str:
    length = shape.choice((8, 16, 24, 32))
    address = random.getrandbits(length) << 32 - length
    return f"{'.'.join(map(str, address.to_bytes(4, 'big')))}/{length}"


def _conditions(shape: Random, random: Random, kind: str) -> Iterator[str]:
    """Those on what a packet of this kind carries."""
    if kind != "any":
        yield kind
    if kind == "arp":
        yield f"arp_spa={_ipv4(shape, random)}"
    elif kind == "mpls":
        yield f"mpls_label={random.randrange(1 << 20)}"
    elif kind != "any":
        for end in ("src", "dst"):
            if shape.random() < 0.5:
                six = f"ipv6_{end}=2001:db8:{random.randrange(1, 0x10000):x}::/48"
                yield six if kind.endswith("6") else f"nw_{end}={_ipv4(shape, random)}"
            if kind in _WITH_PORTS and shape.random() < 0.5:
                yield f"tp_{end}={random.randrange(0x10000)}"
        if shape.random() < 0.2:
            yield f"nw_tos={random.randrange(64) << 2}"
        if kind == "icmp":
            yield f"icmp_type={random.randrange(256)}"


def _flow(random: Random, shapes: int, tables: int) -> Flow:
    number = random.randrange(shapes)
    shape = Random(number)
    kind, tagged = shape.choice(_KINDS), shape.random() < 0.2
    words = list(_conditions(shape, random, kind))
    if not words or shape.random() < 0.3:
        words.append(f"dl_dst={_mac(random)}")
    if shape.random() < 0.4:
        words.append(f"in_port={random.choice(PORTS)}")
    if shape.random() < 0.2:
        words.append(f"dl_src={_mac(random)}/ff:ff:ff:ff:ff:0f")
    if tagged:
        words.append(f"dl_vlan={random.randrange(4095)}")
    return Flow(number, kind, tagged, shape.randrange(tables), random.randrange(0x10000), ",".join(words))


def _actions(random: Random, flow: Flow, tables: int) -> str:
    """Changes of the packet first, then where it goes: to ports or on to a table, as a frame that was sent is not
    changed any more. They are written as OpenFlow 1.0 and as 1.3 has them."""
    shape = Random(flow.shape * _DONE + random.randrange(_DONE))
    if shape.random() < 0.15:
        return "drop"
    words = []
    if shape.random() < 0.3:
        words.append(shape.choice(("mod_dl_src:{}", "set_field:{}->eth_dst")).format(_mac(random)))
    if flow.tagged and shape.random() < 0.3:
        words.append(shape.choice(("strip_vlan", f"mod_vlan_vid:{random.randrange(4095)}")))
    if flow.kind in ("ip", "tcp", "udp", "icmp") and shape.random() < 0.5:
        address = f"10.0.0.{random.randrange(256)}"
        words.append(
            shape.choice(("dec_ttl", f"mod_nw_dst:{address}", f"set_field:{address}->ip_src", "mod_nw_tos:32"))
        )
    if flow.kind in ("tcp", "udp") and shape.random() < 0.3:
        words.append(
            shape.choice(("mod_tp_src:{}", f"set_field:{{}}->{flow.kind}_dst")).format(random.randrange(0x10000))
        )
    if flow.table < tables - 1 and shape.random() < 0.2:
        return ",".join([*words, f"goto_table:{shape.randrange(flow.table + 1, tables)}"])
    words += [f"output:{port}" for port in shape.sample(PORTS, shape.randint(1, len(PORTS)))]
    if shape.random() < 0.1:
        words.append("CONTROLLER:65535")
    return ",".join(words)


def flow_mods(random: Random, count: int, *, shapes: int, tables: int) -> Iterator[str]:
    """So many, as the lines of a file for ``ovs-ofctl add-flows``: most of them adds; modifies and deletes, strict and
    not, are of rules that are there or were. There are so many `shapes` of what they are about and under which masks,
    and so many `tables`."""
    added = [_flow(random, shapes, tables)]
    for _ in range(count):
        command = random.choices(tuple(_COMMANDS), tuple(_COMMANDS.values()))[0]
        if command == "add":
            added.append(_flow(random, shapes, tables))
        flow = added[-1] if command == "add" else random.choice(added)
        words = [flow.name if command in ("add", "modify_strict", "delete_strict") else flow.place]
        if command == "add":
            words.append(f"cookie={random.randrange(1 << 64):#x}")
            words += random.choice(((), (), ("send_flow_rem",), (f"idle_timeout={random.randint(600, 0xFFFF)}",)))
        if not command.startswith("delete"):
            words.append(f"actions={_actions(random, flow, tables)}")
        yield f"{command} {','.join(words)}"
