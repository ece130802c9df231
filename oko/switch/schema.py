"""What the bytes of a map's keys and values mean: described in JSON, and values read and written by that.

A schema is one of

    {"kind": "int", "size": 4, "signed": false, "network": true}    network or host order
    {"kind": "bool", "size": 1}
    {"kind": "ipv4", "size": 4}                                      an oko_ipv4 of the SDK, written a.b.c.d
    {"kind": "ip", "size": 16}                                       an oko_ip, written a.b.c.d or as RFC 5952 has it
    {"kind": "prefix", "size": 20}                                   an oko_prefix, written ADDRESS/LENGTH
    {"kind": "ip_protocol", "size": 1}                               an oko_ip_protocol, written by name if it has one
    {"kind": "time", "size": 8}                                      an oko_time, ns as oko_now() gives them
    {"kind": "enum", "size": 4, "signed": false, "values": {"ESTABLISHED": 3}}
    {"kind": "bytes", "size": 6}                                     in hexadecimal; six bytes as a MAC address
    {"kind": "array", "size": 8, "element": SCHEMA}
    {"kind": "struct", "size": 16, "members": [{"name": "state", "offset": 0, "type": SCHEMA}]}

A struct has its own "name", too, if the program gave it one. Members without a name, bit-fields and spin locks, which
the kernel shows to nobody, are left out; pointers and floats are "bytes".
"""

from __future__ import annotations

import ipaddress
import json
from typing import Any, Final

from oko.errors import BadMapAccess
from oko.flow.fields import IP_PROTO_ICMP, IP_PROTO_ICMPV6, IP_PROTO_SCTP, IP_PROTO_TCP, IP_PROTO_UDP
from verifier.btf import Array, Btf, Datasec, Enum, Enum64, Int, Modifier, Struct, Typedef, Union, Var

Schema = dict[str, Any]
Value = int | bool | str | list["Value"] | dict[str, "Value"]

_NETWORK: Final = frozenset({"__be16", "__be32", "__be64"})
_INTEGERS: Final = {"oko_ipv4": ("ipv4", 4), "oko_ip_protocol": ("ip_protocol", 1), "oko_time": ("time", 8)}
"""By the name of the type, the kind, and the size that it has in the SDK."""
_STRUCTS: Final = {"oko_ip": "ip", "oko_prefix": "prefix"}
_LOCK: Final = "bpf_spin_lock"
_IPV4_IN_IPV6: Final = bytes(10) + b"\xff\xff"
_DEPTH: Final = 16
_MAC: Final = 6

IP_PROTOCOLS: Final = {
    "icmp": IP_PROTO_ICMP,
    "igmp": 2,
    "tcp": IP_PROTO_TCP,
    "udp": IP_PROTO_UDP,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmp6": IP_PROTO_ICMPV6,
    "ospf": 89,
    "sctp": IP_PROTO_SCTP,
}
"""The protocols that are written by name, those of the flow syntax with its names (numbers: IANA)."""
_PROTOCOL_NAMES: Final = {number: name for name, number in IP_PROTOCOLS.items()}


def schema(btf: Btf, type_id: int, depth: int = 0) -> Schema:
    """The schema of a type. Raises NotReadable for BTF that contradicts itself."""
    size = btf.size_of(type_id)
    plain: Schema = {"kind": "bytes", "size": size}
    if depth > _DEPTH:
        return plain
    names = _typedefs(btf, type_id)
    match btf.resolved(type_id):
        case Int() if kinds := [kind for name, (kind, wanted) in _INTEGERS.items() if name in names and size == wanted]:
            return {"kind": kinds[0], "size": size}
        case Int() as found if found.boolean:
            return {"kind": "bool", "size": size}
        case Int() as found:
            return {"kind": "int", "size": size, "signed": found.signed, "network": bool(names & _NETWORK)}
        case Enum() | Enum64() as found:
            return {"kind": "enum", "size": size, "signed": found.signed, "values": dict(found.values)}
        case Array() as found:
            element = btf.resolved(found.element)
            if isinstance(element, Int) and element.size == 1 and not element.boolean:
                return plain
            return {"kind": "array", "size": size, "element": schema(btf, found.element, depth + 1)}
        case Struct() as found if found.name in _STRUCTS:
            return {"kind": _STRUCTS[found.name], "size": size}
        case Struct() | Union():
            members = [(member.name, member.offset, member.type, member.bit_size) for member in btf.members(type_id)]
        case Datasec() as found:
            placed = [(btf.type_of(variable.type, Var), variable.offset) for variable in found.variables]
            members = [(variable.name, offset, variable.type, 0) for variable, offset in placed]
        case _:
            return plain
    resolved = btf.resolved(type_id)
    named = resolved.name if isinstance(resolved, Struct | Union) else ""
    return {
        "kind": "struct",
        **({"name": named} if named else {}),
        "size": size,
        "members": [
            {"name": name, "offset": offset, "type": schema(btf, member, depth + 1)}
            for name, offset, member, bit_size in members
            if name and not bit_size and not _is_lock(btf, member)
        ],
    }


def untyped(size: int, *, is_index: bool = False) -> Schema:
    """The schema of a key or value of which the program says nothing: bytes, or the index of an array."""
    if is_index:
        return {"kind": "int", "size": size, "signed": False, "network": False}
    return {"kind": "bytes", "size": size}


def read(described: Schema, data: bytes) -> Value:
    """The value that `data` is, as something JSON can hold. Data of another size than the schema's is shown in
    hexadecimal."""
    size = described["size"]
    if len(data) != size:
        return data.hex()
    match described["kind"]:
        case "int":
            return int.from_bytes(data, "big" if described["network"] else "little", signed=described["signed"])
        case "bool":
            return any(data)
        case "ip_protocol":
            return _PROTOCOL_NAMES.get(data[0], data[0])
        case "time":
            return int.from_bytes(data, "little")
        case "ipv4":
            return str(ipaddress.IPv4Address(data))
        case "ip":
            return str(_address(data))
        case "prefix":
            return _prefix(data)
        case "enum":
            number = int.from_bytes(data, "little", signed=described["signed"])
            return next((name for name, known in described["values"].items() if known == number), number)
        case "array":
            element = described["element"]
            step = element["size"] or 1
            return [read(element, data[at : at + step]) for at in range(0, size, step)]
        case "struct":
            return {
                member["name"]: read(member["type"], data[member["offset"] : member["offset"] + member["type"]["size"]])
                for member in described["members"]
            }
        case _:
            return data.hex(":") if size == _MAC else data.hex()


def write(described: Schema, value: Value, base: bytes | None = None) -> bytes:
    """The bytes of `value`, as `read` shows it. Members of a struct that `value` does not name keep what `base` has, or
    are zero. Raises BadMapAccess for a value that does not fit."""
    size = described["size"]
    match described["kind"], value:
        case "bool", bool():
            return int(value).to_bytes(size, "little")
        case (("int" | "enum"), int()) if not isinstance(value, bool):
            return _number(described, value)
        case (("time" | "ip_protocol"), int()) if not isinstance(value, bool):
            return _number({"size": size, "signed": False}, value)
        case "ip_protocol", str():
            if value not in IP_PROTOCOLS:
                raise BadMapAccess(f"{value!r} is no IP protocol: use its number, or {', '.join(IP_PROTOCOLS)}")
            return bytes((IP_PROTOCOLS[value],))
        case "enum", str() if value in described["values"]:
            return _number(described, described["values"][value])
        case "ipv4", str():
            try:
                return ipaddress.IPv4Address(value).packed
            except ValueError:
                raise BadMapAccess(f"{value!r} is no IPv4 address") from None
        case "ip", str():
            try:
                return _packed(ipaddress.ip_address(value))
            except ValueError:
                raise BadMapAccess(f"{value!r} is no IP address") from None
        case "prefix", str():
            try:
                network = ipaddress.ip_network(value)
            except ValueError as error:
                raise BadMapAccess(f"{value!r} is no prefix: {error}") from None
            length = network.prefixlen + (96 if network.version == 4 else 0)
            return length.to_bytes(4, "little") + _packed(network.network_address)
        case "array", list() if len(value) * described["element"]["size"] == size:
            return b"".join(write(described["element"], element) for element in value)
        case "struct", dict():
            return _struct(described, value, base)
        case _, str():
            return _hexadecimal(value, size)
    raise BadMapAccess(f"{value!r} is no {described['kind']} of {size} bytes")


def parse(described: Schema, text: str) -> Value:
    """A value as it stands in a command line, for `write`: JSON, and without its quotes what is a string there. Raises
    BadMapAccess for what begins like JSON and is none."""
    kind = described["kind"]
    if kind == "bytes" and not text.startswith('"'):
        return text.removeprefix("0x")
    try:
        if kind in ("int", "enum", "ip_protocol", "time") and text.startswith("0x"):
            return int(text, 16)
        value: Value = json.loads(text)
    except ValueError:
        if text[:1] in ("{", "[", '"'):
            raise BadMapAccess(f"{text!r} is not JSON") from None
        return text
    return value


def _address(data: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    if data.startswith(_IPV4_IN_IPV6):
        return ipaddress.IPv4Address(data[len(_IPV4_IN_IPV6) :])
    return ipaddress.IPv6Address(data)


def _packed(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    return address.packed if address.version == 6 else _IPV4_IN_IPV6 + address.packed


def _prefix(data: bytes) -> str:
    """An LPM key; below 96 bits it is an IPv6 prefix, whatever its address."""
    length, address = int.from_bytes(data[:4], "little"), _address(data[4:])
    if address.version == 4 and length >= 96:
        return f"{address}/{length - 96}"
    return f"{ipaddress.IPv6Address(data[4:])}/{length}"


def _struct(described: Schema, value: dict[str, Value], base: bytes | None) -> bytes:
    data = bytearray(base if base is not None else bytes(described["size"]))
    members = {member["name"]: member for member in described["members"]}
    for name, content in value.items():
        if name not in members:
            raise BadMapAccess(f"no member {name!r}: there are {', '.join(members)}")
        start, kind = members[name]["offset"], members[name]["type"]
        data[start : start + kind["size"]] = write(kind, content, bytes(data[start : start + kind["size"]]))
    return bytes(data)


def _number(described: Schema, value: int) -> bytes:
    size, order = described["size"], "big" if described.get("network") else "little"
    try:
        return value.to_bytes(size, "big" if order == "big" else "little", signed=described["signed"])
    except OverflowError:
        raise BadMapAccess(f"{value} does not fit in {size} bytes") from None


def _hexadecimal(text: str, size: int) -> bytes:
    try:
        data = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        raise BadMapAccess(f"{text!r} is not hexadecimal") from None
    if len(data) != size:
        raise BadMapAccess(f"{text!r} has {len(data)} bytes, not {size}")
    return data


def _is_lock(btf: Btf, type_id: int) -> bool:
    found = btf.resolved(type_id)
    return isinstance(found, Struct) and found.name == _LOCK


def _typedefs(btf: Btf, type_id: int) -> set[str]:
    """The names that the type goes by."""
    names = set()
    while isinstance(value := btf.types[type_id], Modifier):
        if isinstance(value, Typedef):
            names.add(value.name)
        type_id = value.type
    return names
