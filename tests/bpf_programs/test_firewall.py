"""The firewall on sequences of packets, in the kernel."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from oko.compiler.compile import compile_trial
from oko.compiler.image import Filter
from oko.compiler.runtime import Runtime
from oko.kernel.btf import load_btf
from oko.switch.loaded_image import LoadedImage, create_map
from oko.switch.schema import Schema, read, schema, write
from tests.bpf_programs.harness import Harness, build, build_test_object
from verifier import elf
from verifier.btf import Btf

pytestmark = pytest.mark.needs_bpf

MATCH, NO_MATCH = True, False
INSIDE, OUTSIDE = 1, 2  # ports; only the first may open connections by default
SECOND = 10**9
OPENING_SLOTS = 32768

LAST_SEEN = struct.Struct("=8xQ")  # of struct connection
CONFIG = ".data.config"
ONLY = bytes(4)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The firewall as a program of its own."""
    source = Path(__file__).with_name("firewall_harness.c")
    return build_test_object(source, tmp_path_factory.mktemp("firewall"))


class Firewall:
    """A firewall with maps of its own."""

    def __init__(self, harness: Harness, path: Path) -> None:
        self._harness = harness
        program = elf.load(path.read_bytes(), section="xdp")
        specs = {spec.name: spec for spec in program.maps}
        btf = cast(Btf, program.btf)
        self._schemas: dict[str, tuple[Schema, Schema]] = {
            name: (schema(btf, spec.key_type), schema(btf, spec.value_type))
            for name, spec in specs.items()
            if spec.key_type
        }
        self._settings = schema(btf, specs[CONFIG].value_type)
        self._defaults = cast(bytes, specs[CONFIG].initial)

    @property
    def connections(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Keys and values as `oko map dump` shows them."""
        return self._entries("connections")

    @property
    def fragments(self) -> list[dict[str, Any]]:
        """Members of keys and values together."""
        return [key | value for key, value in self._entries("fragments")]

    def _entries(self, name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        key_schema, value_schema = self._schemas[name]
        return [
            (cast(dict[str, Any], read(key_schema, key)), cast(dict[str, Any], read(value_schema, value)))
            for key, value in self._harness.maps[name].items()
        ]

    @property
    def states(self) -> list[str]:
        """Of the entries that have one: a connection whose SYN was answered with a RST has none left."""
        return [value["state"] for _, value in self.connections if value["state"] != "NONE"]

    @property
    def report(self) -> dict[str, Any]:
        _, value_schema = self._schemas["rings"]
        return cast(dict[str, Any], read(value_schema, self._harness.maps["rings"].lookup(ONLY) or b""))

    def configure(self, **changed: Any) -> None:
        self._harness.maps[CONFIG].update(ONLY, write(self._settings, {"config": changed}, self._defaults))

    def matches(self, port: int, packet: Packet | bytes) -> bool:
        self._harness.maps["ingress"].update(ONLY, struct.pack("=I", port))
        return bool(self._harness.run(bytes(packet)).retval)

    def repeat(self, packet: Packet, times: int) -> None:
        """The same packet again and again, from the port of the last one."""
        self._harness.run(bytes(packet), repeat=times)

    def age(self, seconds: float) -> None:
        """Let every connection, and every fragment, have been quiet for so much longer."""
        for name, layout in (("connections", LAST_SEEN), ("fragments", struct.Struct("=Q"))):
            for key, value in list(self._harness.maps[name].items()):
                (last_seen,) = layout.unpack_from(value)
                earlier = struct.pack("=Q", (last_seen - int(seconds * SECOND)) % 2**64)
                at = layout.size - 8
                self._harness.maps[name].update(key, value[:at] + earlier + value[at + 8 :])

    def forget(self) -> None:
        for name in ("connections", "fragments"):
            for key, _ in list(self._harness.maps[name].items()):
                self._harness.maps[name].delete(key)


@pytest.fixture(scope="module")
def loaded(built: Path) -> Iterator[Harness]:
    with Harness(built) as harness:
        yield harness


@pytest.fixture
def firewall(loaded: Harness, built: Path) -> Firewall:
    """A firewall without connections, in the default configuration."""
    fresh = Firewall(loaded, built)
    fresh.forget()
    fresh.configure()
    return fresh


CLIENT, SERVER = "10.0.0.1", "10.0.0.2"
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
THERE = ETHER / IP(src=CLIENT, dst=SERVER)
BACK = ETHER / IP(src=SERVER, dst=CLIENT)
THERE6 = ETHER / IPv6(src="2001:db8::1", dst="2001:db8::2")
BACK6 = ETHER / IPv6(src="2001:db8::2", dst="2001:db8::1")


@dataclass(frozen=True)
class Segment:
    """A segment between the two ends. Where it stands depends on those before: `seq` and `ack` are counted from what
    comes next. `aside`: it is not counted as sent."""

    from_client: bool
    flags: str
    length: int = 0
    seq: int = 0
    ack: int = 0
    window: int = 8192
    options: tuple[tuple[str, object], ...] = ()
    aside: bool = False
    below: Callable[[Packet, Packet], Packet] = lambda ip, tcp: ip / tcp
    port: int | None = None


def client(flags: str, length: int = 0, **other: Any) -> Segment:
    return Segment(True, flags, length, **other)


def server(flags: str, length: int = 0, **other: Any) -> Segment:
    return Segment(False, flags, length, **other)


class Talk:
    """The sequence numbers of both ends; those of the client wrap around soon."""

    def __init__(self, client_port: int = 40000) -> None:
        self._next = {True: 2**32 - 100, False: 5000}
        self._client_port = client_port

    def frame(self, segment: Segment) -> tuple[int, Packet]:
        mine, other = self._next[segment.from_client], self._next[not segment.from_client]
        ports = (self._client_port, 80) if segment.from_client else (80, self._client_port)
        tcp = TCP(
            sport=ports[0],
            dport=ports[1],
            flags=segment.flags,
            seq=(mine + segment.seq) % 2**32,
            ack=(other + segment.ack) % 2**32 if "A" in segment.flags else 0,
            window=segment.window,
            options=list(segment.options),
        ) / Raw(bytes(segment.length))
        if not segment.aside and "R" not in segment.flags:
            end = mine + segment.seq + segment.length + ("S" in segment.flags) + ("F" in segment.flags)
            self._next[segment.from_client] = max(mine, end)
        port = segment.port or (INSIDE if segment.from_client else OUTSIDE)
        return port, segment.below(THERE if segment.from_client else BACK, tcp)


Sent = Segment | tuple[int, Packet]


def query() -> Sent:
    return INSIDE, THERE / UDP(sport=5000, dport=53) / Raw(b"query")


def reply() -> Sent:
    return OUTSIDE, BACK / UDP(sport=53, dport=5000) / Raw(b"reply")


def ping(identifier: int = 7) -> Sent:
    return INSIDE, THERE / ICMP(type="echo-request", id=identifier)


def pong(identifier: int = 7) -> Sent:
    return OUTSIDE, BACK / ICMP(type="echo-reply", id=identifier)


def unreachable(quoted: Packet, source: str = "192.0.2.1", receiver: str = CLIENT, kind: int = 3) -> Sent:
    """An ICMP error from a router about a packet, of which it quotes the IP header and 8 bytes."""
    return OUTSIDE, ETHER / IP(src=source, dst=receiver) / ICMP(type=kind, code=1) / Raw(bytes(quoted[IP])[:28])


@dataclass(frozen=True)
class Quiet:
    """So many seconds without a packet."""

    seconds: float


Step = tuple[Sent, bool] | Quiet


def matching(*packets: Sent) -> list[Step]:
    return [(packet, MATCH) for packet in packets]


def refused(*packets: Sent) -> list[Step]:
    return [(packet, NO_MATCH) for packet in packets]


def lost(*packets: Segment) -> list[Step]:
    """Refused, and not counted as sent."""
    return [(Segment(**{**vars(packet), "aside": True}), NO_MATCH) for packet in packets]


HANDSHAKE = matching(client("S"), server("SA"), client("A"))
FINS = matching(client("FA"), server("A"), server("FA"))
CLOSE = [*FINS, *matching(client("A"))]
HALF_CLOSED = [*HANDSHAKE, *matching(client("FA"))]
FIVE_DAYS = 5 * 24 * 3600
BOTH_OPEN = {"openers": 1 << 1 | 1 << 2}
SCALED = (("WScale", 7),)
SACKS = (("SAckOK", b""),)
QUERY = THERE / UDP(sport=5000, dport=53) / Raw(b"query")
PING = THERE / ICMP(type="echo-request", id=7)
SYN = THERE / TCP(sport=40000, dport=80, flags="S", seq=2**32 - 100)
OTHER_PORT = BACK / TCP(sport=81, dport=40000, flags="SA")
FIRST = ETHER / IP(src=CLIENT, dst=SERVER, id=77, flags="MF") / UDP(sport=5000, dport=53, len=1008) / Raw(bytes(992))
FIRST_BACK = (
    ETHER / IP(src=SERVER, dst=CLIENT, id=77, flags="MF") / UDP(sport=53, dport=5000, len=1008) / Raw(bytes(992))
)
BAD_FIRST = ETHER / IP(src=CLIENT, dst=SERVER, id=77, flags="MF") / UDP(sport=5000, dport=53, len=7) / Raw(bytes(992))
LATER6 = THERE6 / IPv6ExtHdrFragment(id=7, nh=17, offset=125, m=0) / Raw(bytes(16))
FIRST6 = THERE6 / IPv6ExtHdrFragment(id=7, m=1) / UDP(sport=5000, dport=53, len=1016, chksum=1) / Raw(bytes(992))


def later(**fields: Any) -> tuple[int, Packet]:
    """A later fragment of FIRST, but for `fields`."""
    chosen = {"src": CLIENT, "dst": SERVER, "id": 77, "proto": 17, "frag": 125, **fields}
    return INSIDE, ETHER / IP(**chosen) / Raw(bytes(16))


def later_back(**fields: Any) -> tuple[int, Packet]:
    """The same of FIRST_BACK, from the side that may not open."""
    return OUTSIDE, later(src=SERVER, dst=CLIENT, **fields)[1]


def in_fragments(ip: Packet, tcp: Packet) -> Packet:
    return ETHER / IP(src=ip[IP].src, dst=ip[IP].dst, id=79, flags="MF") / tcp


@dataclass(frozen=True)
class Case:
    """Packets one after the other, whether each matches, and the state of the one connection then ("": none)."""

    steps: list[Step]
    state: str
    config: dict[str, Any] = field(default_factory=dict)


def timeout(**seconds: int) -> dict[str, Any]:
    return {"timeout": seconds}


CASES: dict[str, Case] = {
    # TCP: opening
    "a SYN opens": Case(matching(client("S")), "SYN_SENT"),
    "a SYN may be sent again": Case(matching(client("S"), client("S", seq=-1)), "SYN_SENT"),
    "a SYN again with another number": Case(
        matching(client("S"), client("S", seq=5000), server("SA"), client("A")), "ESTABLISHED"
    ),
    "a SYN with ECE and CWR opens": Case(matching(client("SEC")), "SYN_SENT"),
    "a SYN with data opens": Case(matching(client("S", 100), server("SA"), client("A")), "ESTABLISHED"),
    "a SYN|ACK answers": Case(matching(client("S"), server("SA"), server("SA", seq=-1)), "SYN_RECEIVED"),
    "a handshake": Case(HANDSHAKE, "ESTABLISHED"),
    "a SYN|ACK for another SYN": Case([*matching(client("S")), *lost(server("SA", ack=1))], "SYN_SENT"),
    "an ACK for another SYN|ACK": Case(
        [*matching(client("S"), server("SA")), *lost(client("A", ack=1))], "SYN_RECEIVED"
    ),
    "the server may not open": Case(refused(server("S")), ""),
    "nor may it after being refused": Case(refused(server("S"), server("SA"), server("A")), ""),
    "a configured port may open": Case(matching(server("S"), client("SA"), server("A")), "ESTABLISHED", {"openers": 4}),
    "then port 1 may not": Case(refused(client("S")), "", {"openers": 4}),
    "port 63 is the last that may": Case(matching(client("S", port=63)), "SYN_SENT", {"openers": 2**64 - 1}),
    "port 64 may never": Case(refused(client("S", port=64)), "", {"openers": 2**64 - 1}),
    "port 65 is not port 1": Case(refused(client("S", port=65)), ""),
    "simultaneous open": Case(
        matching(client("S"), server("S"), client("SA", seq=-1), server("SA", seq=-1)), "SYN_RECEIVED", BOTH_OPEN
    ),
    "simultaneous open, acknowledged": Case(
        matching(client("S"), server("S"), client("SA", seq=-1), server("SA", seq=-1), server("A"), client("A")),
        "ESTABLISHED",
    ),
    "an ACK before the SYN|ACK": Case([*matching(client("S")), *refused(client("A"))], "SYN_SENT"),
    "an ACK in place of the SYN|ACK, and the RST for it": Case(
        matching(client("S"), server("A", seq=700, ack=900), client("R", seq=900)), "CLOSED"
    ),
    "a SYN|ACK of the opener's own": Case([*matching(client("S")), *refused(client("SA"))], "SYN_SENT"),
    "another port's SYN|ACK": Case([*matching(client("S")), *refused((OUTSIDE, OTHER_PORT))], "SYN_SENT"),
    # TCP: out of the blue
    **{
        f"{flags or 'no flags'} out of the blue": Case(refused(client(flags), server(flags)), "")
        for flags in ("A", "SA", "FA", "R", "RA", "PA", "F", "", "SF", "SR", "FSRPAU", "FPU")
    },
    # TCP: open
    "data both ways": Case(
        [*HANDSHAKE, *matching(client("PA", 99), server("A"), server("PA", 1000), client("A"))], "ESTABLISHED"
    ),
    "data around the end of the numbers": Case(
        [*HANDSHAKE, *matching(client("PA", 500), server("A"), client("PA", 500), server("A"))], "ESTABLISHED"
    ),
    "data sent again": Case(
        [*HANDSHAKE, *matching(client("PA", 500), server("A"), client("PA", 500, seq=-500), server("A"))], "ESTABLISHED"
    ),
    "data out of order": Case(
        [*HANDSHAKE, *matching(client("PA", 500, seq=500), client("PA", 500, seq=-1000), server("A"))], "ESTABLISHED"
    ),
    "a keepalive": Case(
        [*HANDSHAKE, *matching(client("PA", 500), server("A"), client("A", seq=-1), server("A"))], "ESTABLISHED"
    ),
    "data beyond the window": Case([*HANDSHAKE, *lost(client("PA", 1, seq=30000))], "ESTABLISHED"),
    "a little beyond the window": Case([*HANDSHAKE, *matching(client("PA", 1000, seq=8200))], "ESTABLISHED"),
    "an acknowledgement of what was not sent": Case([*HANDSHAKE, *lost(client("A", ack=1))], "ESTABLISHED"),
    "a very old acknowledgement": Case([*HANDSHAKE, *matching(client("A", ack=-70000))], "ESTABLISHED"),
    "a scaled window": Case(
        matching(
            client("S", options=SCALED), server("SA", options=SCALED), client("A"), server("PA", 1000, seq=900_000)
        ),
        "ESTABLISHED",
    ),
    "a window that only one side scales": Case(
        [
            *matching(client("S", options=SCALED), server("SA"), client("A")),
            *lost(server("PA", 1000, seq=900_000)),
        ],
        "ESTABLISHED",
    ),
    "a selective acknowledgement of what was not sent": Case(
        [
            *matching(client("S", options=SACKS), server("SA", options=SACKS), client("A")),
            *lost(client("A", options=(("SAck", (5101, 5201)),))),
        ],
        "ESTABLISHED",
    ),
    "segments no TCP sends": Case([*HANDSHAKE, *lost(client("SF"), client(""), server("FPU"))], "ESTABLISHED"),
    "a SYN of the opener in mid-connection, and the challenge": Case(
        [*HANDSHAKE, *matching(client("S", seq=9999, aside=True), server("A"))], "ESTABLISHED"
    ),
    "a new connection that the firewall missed the end of": Case(
        [*HANDSHAKE, *matching(client("S", seq=99999), server("SA", seq=99999), client("A"), client("PA", 9))],
        "ESTABLISHED",
    ),
    "a SYN of the server in mid-connection": Case([*HANDSHAKE, *lost(server("S"))], "ESTABLISHED"),
    "a lost last ACK of the handshake": Case([*HANDSHAKE, *matching(server("SA", seq=-1), client("A"))], "ESTABLISHED"),
    # TCP: closing
    "the client closes": Case([*HANDSHAKE, *CLOSE], "TIME_WAIT"),
    "the server closes": Case(
        [*HANDSHAKE, *matching(server("FA"), client("A"), client("FA"), server("A"))], "TIME_WAIT"
    ),
    "a FIN": Case(HALF_CLOSED, "FIN_WAIT"),
    "a FIN beyond the window": Case([*HANDSHAKE, *lost(client("FA", seq=30000))], "ESTABLISHED"),
    "an ACK that is older than the FIN": Case(
        [*HANDSHAKE, *matching(client("PA", 9), client("FA"), server("A", ack=-1))], "FIN_WAIT"
    ),
    "half closed, data goes on": Case([*HALF_CLOSED, *matching(server("PA", 9), client("A"))], "CLOSE_WAIT"),
    "a FIN sent again": Case([*HALF_CLOSED, *matching(client("FA", seq=-1))], "FIN_WAIT"),
    "a FIN for the ACK of the handshake": Case(matching(client("S"), server("SA"), client("FA")), "FIN_WAIT"),
    "both FINs": Case([*HANDSHAKE, *FINS], "LAST_ACK"),
    "both FINs, one again": Case([*HANDSHAKE, *FINS, *matching(server("FA", seq=-1))], "LAST_ACK"),
    "simultaneous close": Case([*HALF_CLOSED, *matching(server("FA", ack=-1), server("A"), client("A"))], "TIME_WAIT"),
    "a FIN again in TIME_WAIT": Case([*HANDSHAKE, *CLOSE, *matching(server("FA", seq=-1))], "TIME_WAIT"),
    "a SYN|ACK is not the last ACK": Case([*HANDSHAKE, *FINS, *matching(server("SA", seq=-2))], "LAST_ACK"),
    "a SYN after the close": Case([*HANDSHAKE, *CLOSE, *matching(client("S", seq=70000))], "SYN_SENT"),
    "the server's SYN after the close": Case([*HANDSHAKE, *CLOSE, *refused(server("S"))], "TIME_WAIT"),
    "the server's SYN after the close, where it may": Case(
        [*HANDSHAKE, *CLOSE, *matching(server("S"), client("SA"), server("A"))], "ESTABLISHED", BOTH_OPEN
    ),
    # TCP: reset
    "a reset by the server": Case([*HANDSHAKE, *matching(server("R"))], "CLOSED"),
    "a reset by the client": Case([*HANDSHAKE, *matching(client("RA"))], "CLOSED"),
    "a blind reset, too low": Case([*HANDSHAKE, *lost(server("R", seq=-1))], "ESTABLISHED"),
    "a blind reset, beyond the window": Case([*HANDSHAKE, *lost(server("R", seq=30000))], "ESTABLISHED"),
    "a reset in the window, but not at its beginning": Case(
        [*HANDSHAKE, *matching(server("R", seq=100), client("A"))], "ESTABLISHED"
    ),
    "a reset behind data that is under way": Case([*HANDSHAKE, *matching(server("A", 100), server("R"))], "CLOSED"),
    "what is under way when a reset comes": Case(
        [*HANDSHAKE, *matching(server("R"), client("PA", 9)), *lost(client("PA", 9, seq=30000))], "CLOSED"
    ),
    "a refused connection": Case([*matching(client("S"), server("RA")), *refused(server("SA"), client("A"))], ""),
    "a refusal of another SYN": Case([*matching(client("S")), *lost(server("RA", ack=5))], "SYN_SENT"),
    "a SYN after a refusal": Case(matching(client("S"), server("RA"), client("S", seq=50)), "SYN_SENT"),
    "a SYN after a reset": Case(
        [*HANDSHAKE, *matching(server("R"), client("S", seq=70000), server("SA"))], "SYN_RECEIVED"
    ),
    "a SYN after the client's reset": Case([*HANDSHAKE, *matching(client("R"), client("S", seq=70000))], "SYN_SENT"),
    "the server's SYN after a reset": Case([*HANDSHAKE, *matching(server("R")), *refused(server("S"))], "CLOSED"),
    # UDP and ICMP queries
    "a query": Case(matching(query()), "UNREPLIED"),
    "a query and its reply": Case(matching(query(), reply(), query()), "REPLIED"),
    "a reply to no query": Case(refused(reply()), ""),
    "a reply from another port": Case(
        [*matching(query()), *refused((OUTSIDE, BACK / UDP(sport=54, dport=5000)))], "UNREPLIED"
    ),
    "a length beyond the packet": Case(refused((INSIDE, THERE / UDP(sport=5000, dport=53, len=99))), ""),
    "a length below the header": Case(refused((INSIDE, THERE / UDP(sport=5000, dport=53, len=7))), ""),
    "a TCP segment on a query's ports": Case(
        [*matching(query()), *refused((OUTSIDE, BACK / TCP(sport=53, dport=5000, flags="A")))], "UNREPLIED"
    ),
    "ports equal at both ends": Case(
        matching((INSIDE, THERE / UDP(sport=123, dport=123)), (OUTSIDE, BACK / UDP(sport=123, dport=123))), "REPLIED"
    ),
    "an echo": Case(matching(ping()), "UNREPLIED"),
    "an echo and its reply": Case(matching(ping(), pong()), "REPLIED"),
    "a reply to no echo": Case(refused(pong()), ""),
    "a reply with another identifier": Case([*matching(ping()), *refused(pong(8))], "UNREPLIED"),
    "an echo by the other side": Case(
        [*matching(ping()), *refused((OUTSIDE, BACK / ICMP(type="echo-request", id=7)))], "UNREPLIED"
    ),
    "a reply by the requester": Case(
        [*matching(ping()), *refused((INSIDE, THERE / ICMP(type="echo-reply", id=7)))], "UNREPLIED"
    ),
    "a timestamp and its reply": Case(
        matching((INSIDE, THERE / ICMP(type=13, id=7)), (OUTSIDE, BACK / ICMP(type=14, id=7))), "REPLIED"
    ),
    "a timestamp's reply to an echo": Case(
        [*matching(ping()), *refused((OUTSIDE, BACK / ICMP(type=14, id=7)))], "UNREPLIED"
    ),
    "an echo of IPv6": Case(
        matching((INSIDE, THERE6 / ICMPv6EchoRequest(id=7)), (OUTSIDE, BACK6 / ICMPv6EchoReply(id=7))), "REPLIED"
    ),
    "neighbour discovery": Case(refused((INSIDE, THERE6 / ICMPv6ND_NS())), ""),
    "another protocol": Case(
        matching(
            (INSIDE, ETHER / IP(src=CLIENT, dst=SERVER, proto=47) / Raw(bytes(40))),
            (OUTSIDE, ETHER / IP(src=SERVER, dst=CLIENT, proto=47) / Raw(bytes(40))),
        ),
        "REPLIED",
    ),
    # ICMP errors
    **{
        f"an ICMP error {kind}": Case(matching(query(), unreachable(QUERY, kind=kind)), "UNREPLIED")
        for kind in (3, 4, 11, 12)
    },
    "an ICMP error about a SYN": Case(matching(client("S"), unreachable(SYN)), "SYN_SENT"),
    "an ICMP error about an echo": Case(matching(ping(), unreachable(PING)), "UNREPLIED"),
    "an ICMP error about nothing": Case(refused(unreachable(QUERY)), ""),
    "an ICMP error about another's packet": Case([*matching(ping()), *refused(unreachable(QUERY))], "UNREPLIED"),
    "an ICMP error for somebody else": Case(
        [*matching(query()), *refused(unreachable(QUERY, receiver="10.0.0.9"))], "UNREPLIED"
    ),
    "an ICMP error that quotes too little": Case(
        [*matching(query()), *refused((OUTSIDE, BACK / ICMP(type=3) / Raw(bytes(QUERY[IP])[:22])))], "UNREPLIED"
    ),
    "an ICMP redirect": Case([*matching(query()), *refused(unreachable(QUERY, kind=5))], "UNREPLIED"),
    "an ICMP error for a connection that expired": Case(
        [*matching(query()), Quiet(31), *refused(unreachable(QUERY))], "UNREPLIED"
    ),
    "an ICMPv6 error": Case(
        matching(
            (INSIDE, THERE6 / UDP(sport=5000, dport=53)),
            (
                OUTSIDE,
                ETHER
                / IPv6(src="2001:db8::99", dst="2001:db8::1")
                / ICMPv6TimeExceeded()
                / THERE6[IPv6]
                / UDP(sport=5000, dport=53),
            ),
        ),
        "UNREPLIED",
    ),
    # Time
    "a SYN that nobody answered": Case([*matching(client("S")), Quiet(121), *refused(server("SA"))], "SYN_SENT"),
    "a SYN answered late": Case([*matching(client("S")), Quiet(119), *matching(server("SA"))], "SYN_RECEIVED"),
    "a handshake not finished": Case(
        [*matching(client("S"), server("SA")), Quiet(61), *refused(client("A"))], "SYN_RECEIVED"
    ),
    "quiet for less than five days": Case(
        [*HANDSHAKE, Quiet(FIVE_DAYS - 1), *matching(server("A")), Quiet(FIVE_DAYS - 1), *matching(client("A"))],
        "ESTABLISHED",
    ),
    "quiet for five days": Case([*HANDSHAKE, Quiet(FIVE_DAYS + 1), *refused(server("A"), client("A"))], "ESTABLISHED"),
    "an expired connection opened anew": Case([*HANDSHAKE, Quiet(FIVE_DAYS + 1), *matching(client("S"))], "SYN_SENT"),
    "quiet after a FIN": Case([*HALF_CLOSED, Quiet(121), *refused(server("PA"))], "FIN_WAIT"),
    "quiet when half closed": Case(
        [*HALF_CLOSED, *matching(server("A")), Quiet(61), *refused(server("A"))], "CLOSE_WAIT"
    ),
    "quiet before the last ACK": Case([*HANDSHAKE, *FINS, Quiet(31), *refused(client("A"))], "LAST_ACK"),
    "quiet in TIME_WAIT": Case([*HANDSHAKE, *CLOSE, Quiet(121), *refused(server("FA"))], "TIME_WAIT"),
    "quiet after a reset": Case([*HANDSHAKE, *matching(server("R")), Quiet(11), *refused(server("R"))], "CLOSED"),
    "a late reply": Case([*matching(query()), Quiet(31), *refused(reply())], "UNREPLIED"),
    "a late reply in a dialogue": Case([*matching(query(), reply()), Quiet(119), *matching(reply())], "REPLIED"),
    "a dialogue that ended": Case([*matching(query(), reply()), Quiet(121), *refused(reply())], "REPLIED"),
    "a late reply to an echo": Case([*matching(ping()), Quiet(31), *refused(pong())], "UNREPLIED"),
    "a timeout of one's own": Case(
        [*HANDSHAKE, Quiet(9), *matching(server("A")), Quiet(11), *refused(server("A"))],
        "ESTABLISHED",
        timeout(established=10),
    ),
    "a timeout of one's own for queries": Case(
        [*matching(query()), Quiet(9), *matching(query()), Quiet(11), *refused(reply())],
        "UNREPLIED",
        timeout(udp_unreplied=10),
    ),
    "the longest timeout": Case(
        [*HANDSHAKE, Quiet(2**32 - 2), *matching(server("A"))], "ESTABLISHED", timeout(established=2**32 - 1)
    ),
    "a packet seen later by another CPU": Case([*HANDSHAKE, Quiet(-3600), *matching(server("A"))], "ESTABLISHED"),
    # Fragments
    "a first fragment": Case(matching((INSIDE, FIRST)), "UNREPLIED"),
    "its later fragment": Case(matching((INSIDE, FIRST), later()), "UNREPLIED"),
    "a later fragment before the first": Case(matching(later(), (INSIDE, FIRST), later()), "UNREPLIED"),
    "a later fragment alone": Case(matching(later()), ""),
    "a later fragment of what is refused": Case(refused(client("A", below=in_fragments), later(proto=6, id=79)), ""),
    "a later fragment of what does not hold": Case(refused((INSIDE, BAD_FIRST), later()), ""),
    "what was refused so long ago that it is over": Case(
        [*refused((INSIDE, BAD_FIRST)), Quiet(31), *matching(later())], ""
    ),
    "fragments of a reply": Case([*matching(query(), (OUTSIDE, FIRST_BACK), later_back())], "REPLIED"),
    "a later fragment of a reply before the first": Case(
        [*matching(query()), *refused(later_back()), *matching((OUTSIDE, FIRST_BACK), later_back())], "REPLIED"
    ),
    "a later fragment of another reply": Case(
        [*matching(query(), (OUTSIDE, FIRST_BACK)), *refused(later_back(id=78))], "REPLIED"
    ),
    "a later fragment from the other side": Case([*matching((INSIDE, FIRST)), *refused(later_back())], "UNREPLIED"),
    "a late fragment of a reply": Case(
        [*matching(query(), (OUTSIDE, FIRST_BACK)), Quiet(31), *refused(later_back())], "REPLIED"
    ),
    "fragments from the side that may not open": Case(refused((OUTSIDE, FIRST_BACK), later_back()), ""),
    "fragments of IPv6": Case(matching((INSIDE, FIRST6), (INSIDE, LATER6)), "UNREPLIED"),
    "an acknowledgement of a segment in fragments": Case(
        [*HANDSHAKE, *matching(client("PA", 48, below=in_fragments), server("A", ack=4000))], "ESTABLISHED"
    ),
    "a TCP fragment over the header": Case(
        [*HANDSHAKE, *matching(client("PA", 48, below=in_fragments)), *refused(later(proto=6, id=79, frag=1))],
        "ESTABLISHED",
    ),
    "a TCP fragment behind the header": Case(
        [*HANDSHAKE, *matching(client("PA", 48, below=in_fragments), later(proto=6, id=79, frag=3))], "ESTABLISHED"
    ),
    # Shapes
    "behind one tag": Case(
        matching(client("S", below=lambda ip, tcp: ETHER / Dot1Q(vlan=5) / ip[IP] / tcp), server("SA")), "SYN_RECEIVED"
    ),
    "behind two tags": Case(
        matching(client("S", below=lambda ip, tcp: ETHER / Dot1AD() / Dot1Q() / ip[IP] / tcp), server("SA")),
        "SYN_RECEIVED",
    ),
    "behind three tags": Case(
        refused(client("S", below=lambda ip, tcp: ETHER / Dot1Q() / Dot1Q() / Dot1Q() / ip[IP] / tcp)), ""
    ),
    "IPv4 options": Case(
        matching(client("S", below=lambda ip, tcp: ETHER / IP(src=CLIENT, dst=SERVER, options=[b"\x01" * 12]) / tcp)),
        "SYN_SENT",
    ),
    "IPv6": Case(
        matching(
            client("S", below=lambda ip, tcp: THERE6 / tcp),
            server("SA", below=lambda ip, tcp: BACK6 / tcp),
            client("A", below=lambda ip, tcp: THERE6 / IPv6ExtHdrDestOpt() / tcp),
        ),
        "ESTABLISHED",
    ),
    "a wrong version": Case(
        refused(client("S", below=lambda ip, tcp: ETHER / IP(src=CLIENT, dst=SERVER, version=5) / tcp)), ""
    ),
    "ARP": Case(refused((INSIDE, ETHER / ARP())), ""),
    "a data offset of 16": Case(refused((INSIDE, THERE / TCP(sport=40000, dport=80, dataofs=4))), ""),
    "a data offset beyond the segment": Case(refused((INSIDE, THERE / TCP(sport=40000, dport=80, dataofs=6))), ""),
    "TCP options": Case(matching(client("S", options=(("MSS", 1460),))), "SYN_SENT"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_sequences(firewall: Firewall, case: Case) -> None:
    firewall.configure(**case.config)
    talk = Talk()
    for number, step in enumerate(case.steps, 1):
        if isinstance(step, Quiet):
            firewall.age(step.seconds)
        else:
            sent, matches = step
            port, packet = talk.frame(sent) if isinstance(sent, Segment) else sent
            assert firewall.matches(port, packet) is matches, f"step {number}: {packet.summary()}"
    assert firewall.states == ([case.state] if case.state else [])


def test_only_a_side_that_may_open_is_remembered_for_what_was_refused(firewall: Firewall) -> None:
    assert not firewall.matches(OUTSIDE, FIRST_BACK)
    assert firewall.fragments == []
    assert not firewall.matches(INSIDE, BAD_FIRST)
    (noted,) = firewall.fragments
    assert (noted["source"], noted["dest"], noted["protocol"], noted["matched"]) == (CLIENT, SERVER, "udp", False)


@pytest.mark.parametrize(
    ("client_address", "server_address"),
    [(CLIENT, SERVER), (SERVER, CLIENT), (CLIENT, CLIENT), ("2001:db8::1", "2001:db8::2"), ("fe80::9", "2001:db8::2")],
)
def test_an_entry_says_who_did_what(firewall: Firewall, client_address: str, server_address: str) -> None:
    """The side with the lower address and port is side 0, whichever opened; 53 and 512 are in
    another order when their bytes are swapped."""
    ip, header = (IPv6, 40) if ":" in client_address else (IP, 20)
    there = ETHER / ip(src=client_address, dst=server_address) / UDP(sport=512, dport=53) / Raw(b"query")
    back = ETHER / ip(src=server_address, dst=client_address) / UDP(sport=53, dport=512)
    assert firewall.matches(INSIDE, there)
    assert firewall.matches(INSIDE, there)
    assert firewall.matches(OUTSIDE, back)

    swapped = client_address > server_address or client_address == server_address
    ends = [(client_address, 512), (server_address, 53)]
    ((key, connection),) = firewall.connections
    assert list(zip(key["addr"], key["port"], strict=True)) == (ends[::-1] if swapped else ends)
    opener = int(swapped)
    assert connection["opener"] == opener
    assert connection["packets"] == ([1, 2] if opener else [2, 1])
    sizes = [2 * (header + 8 + 5), header + 8]
    assert connection["bytes"] == (sizes[::-1] if opener else sizes)


def establish(firewall: Firewall, client_port: int) -> bool:
    """Whether a connection from that port comes about."""
    talk = Talk(client_port)
    return [firewall.matches(*talk.frame(segment)) for segment in (client("S"), server("SA"), client("A"))][-1]


def test_a_flood_of_syns_leaves_established_connections_alone(firewall: Firewall) -> None:
    talk = Talk()
    assert all(firewall.matches(*talk.frame(segment)) for segment in (client("S"), server("SA"), client("A")))
    assert firewall.matches(*cast(tuple[int, Packet], query()))
    syn = bytearray(bytes(SYN))
    for number in range(OPENING_SLOTS + 100):
        struct.pack_into("!I", syn, 26, 0xC6120000 + number)
        assert firewall.matches(INSIDE, bytes(syn))
    assert firewall.matches(*talk.frame(server("PA", 100)))
    assert not firewall.matches(*cast(tuple[int, Packet], reply()))  # a query is not established
    states = firewall.states
    assert states.count("ESTABLISHED") == 1
    assert states.count("SYN_SENT") == len(states) - 1 == OPENING_SLOTS
    assert establish(firewall, 41000)


def test_when_full_new_connections_are_refused(firewall: Firewall) -> None:
    firewall.configure(established=3)
    before = firewall.report["refused"]
    assert [establish(firewall, port) for port in range(41000, 41004)] == [True, True, True, False]
    assert firewall.report["refused"] == before + 1
    firewall.age(FIVE_DAYS + 1)
    assert establish(firewall, 41005)
    assert len(firewall.connections) == 4  # one expired entry has made room


def test_when_full_the_next_to_expire_goes(firewall: Firewall) -> None:
    firewall.configure(established=3, when_full="EVICT_NEXT_TO_EXPIRE")
    before = firewall.report["evicted"]
    for port in range(41000, 41003):
        assert establish(firewall, port)
        firewall.age(60)
    assert establish(firewall, 41003)
    assert firewall.report["evicted"] == before + 1
    ports = [max(key["port"]) for key, _ in firewall.connections]
    assert sorted(ports) == [41001, 41002, 41003]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_both_directions_on_two_cpus(firewall: Firewall) -> None:
    """Not one packet is lost in the counts, and the numbers of both sides are what they were."""
    talk = Talk()
    for segment in (client("S"), server("SA"), client("A")):
        assert firewall.matches(*talk.frame(segment))
    ((_, before),) = firewall.connections
    frames = [talk.frame(client("A"))[1], talk.frame(server("A"))[1]]
    times = 200_000

    def run(cpu: int, frame: Packet) -> None:
        os.sched_setaffinity(0, {cpu})
        firewall.repeat(frame, times)

    cpus = sorted(os.sched_getaffinity(0))
    threads = [threading.Thread(target=run, args=pair) for pair in zip(cpus, frames, strict=False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ((_, after),) = firewall.connections
    assert sum(after["packets"]) == sum(before["packets"]) + 2 * times
    assert [after["packets"][side] - before["packets"][side] for side in (0, 1)] == [times, times]
    assert [side["end"] for side in after["side"]] == [side["end"] for side in before["side"]]
    assert after["state"] == "ESTABLISHED"


FLAGS = st.sampled_from(("S", "SA", "A", "PA", "FA", "R", "RA", "", "SF", "FPU"))
STEPS = st.lists(st.tuples(st.booleans(), FLAGS, st.integers(-3, 3), st.integers(-3, 3)), max_size=20)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_nothing_matches_that_the_inside_did_not_ask_for(
    firewall: Firewall, steps: list[tuple[bool, str, int, int]]
) -> None:
    """Before the inside's SYN nothing matches; segments that no TCP sends never do."""
    firewall.forget()
    talk = Talk()
    is_open = False
    for from_client, flags, seq, ack in steps:
        matches = firewall.matches(*talk.frame(Segment(from_client, flags, seq=seq, ack=ack)))
        if from_client and flags == "S":
            is_open = True
        elif flags in {"", "SF", "FPU"} or not is_open:
            assert not matches


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_garbage_from_outside_never_matches(firewall: Firewall, data: st.DataObject) -> None:
    """Whatever is done to packets of a connection that does not exist."""
    firewall.forget()
    packets = [Talk().frame(server("S")), Talk().frame(server("SA")), reply(), pong(), (0, BACK6 / UDP())]
    frame = bytearray(bytes(cast(tuple[int, Packet], data.draw(st.sampled_from(packets)))[1]))
    for position in data.draw(st.lists(st.integers(0, len(frame) - 1), max_size=4)):
        frame[position] = data.draw(st.integers(0, 255))
    length = data.draw(st.integers(14, len(frame)))
    assert not firewall.matches(OUTSIDE, bytes(frame[:length]))


def test_the_kernel_takes_it_as_a_global_function(tmp_path: Path) -> None:
    build(tmp_path, "SOURCES=firewall.c $(wildcard runtime/*.c)")
    program = elf.load((tmp_path / "firewall.o").read_bytes())
    runtime = Runtime.read(lambda name: (tmp_path / "runtime" / f"{name}.o").read_bytes())
    image = compile_trial(Filter(1, 0, program), {INSIDE: 1}, runtime)
    with ExitStack() as owned:
        btf = owned.enter_context(load_btf(cast(Btf, program.btf).raw))
        shared = {
            item.name: owned.enter_context(create_map(item.name, item.spec, btf if item.program else None))
            for item in image.maps
        }
        owned.enter_context(LoadedImage.load("trial", image, shared))
