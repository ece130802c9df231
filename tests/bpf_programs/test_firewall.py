"""The firewall on sequences of packets, in the kernel."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from oko.compiler.compile import compile_trial
from oko.compiler.image import Filter
from oko.compiler.runtime import Runtime
from oko.switch.loaded_image import LoadedImage, create_map
from tests.bpf_programs.harness import Harness, build, build_test_object
from verifier import elf
from verifier.btf import Enum

pytestmark = pytest.mark.needs_bpf

MATCH, NO_MATCH = True, False
INSIDE, OUTSIDE = 1, 2  # ports; only the first may open connections by default
SECOND = 10**9

KEY = struct.Struct("4s4sHHB3x")
CONNECTION = struct.Struct("=QQQQQIBB2x")  # last_seen, packets[2], bytes[2], state, opener, finished
CONFIG = struct.Struct("=Q10I")  # openers, timeout[]
ONLY = bytes(4)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The firewall as a program of its own."""
    source = Path(__file__).with_name("firewall_harness.c")
    return build_test_object(source, tmp_path_factory.mktemp("firewall"))


@pytest.fixture(scope="module")
def states(built: Path) -> dict[str, int]:
    """enum connection_state, as tools read it from the object."""
    btf = elf.load(built.read_bytes(), section="xdp").btf
    assert btf is not None
    number = btf.id_of("connection_state", Enum)
    assert number is not None
    return dict(btf.type_of(number, Enum).values)


class Firewall:
    """A firewall with maps of its own."""

    def __init__(self, harness: Harness, states: dict[str, int]) -> None:
        self._harness = harness
        self._states = {value: name for name, value in states.items()}

    @property
    def connections(self) -> dict[bytes, tuple[int, ...]]:
        return {key: CONNECTION.unpack(value) for key, value in self._harness.maps["connections"].items()}

    @property
    def state_names(self) -> list[str]:
        return [self._states[connection[5]] for connection in self.connections.values()]

    def configure(self, openers: int = 0, timeouts: dict[str, int] | None = None) -> None:
        chosen = timeouts or {}
        seconds = [chosen.get(self._states[state], 0) for state in range(10)]
        self._harness.maps["config"].update(ONLY, CONFIG.pack(openers, *seconds))

    def matches(self, port: int, packet: Packet | bytes) -> bool:
        self._harness.maps["ingress"].update(ONLY, struct.pack("=I", port))
        return bool(self._harness.run(bytes(packet)).retval)

    def age(self, seconds: float) -> None:
        """Let every connection have been quiet for so much longer."""
        for key, (last_seen, *rest) in self.connections.items():
            earlier = (last_seen - int(seconds * SECOND)) % 2**64
            self._harness.maps["connections"].update(key, CONNECTION.pack(earlier, *rest))

    def forget(self) -> None:
        for key in self.connections:
            self._harness.maps["connections"].delete(key)


@pytest.fixture(scope="module")
def loaded(built: Path) -> Iterator[Harness]:
    with Harness(built) as harness:
        yield harness


@pytest.fixture
def firewall(loaded: Harness, states: dict[str, int]) -> Firewall:
    """A firewall without connections, in the default configuration."""
    fresh = Firewall(loaded, states)
    fresh.forget()
    fresh.configure()
    return fresh


CLIENT, SERVER = "10.0.0.1", "10.0.0.2"
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
THERE = ETHER / IP(src=CLIENT, dst=SERVER)
BACK = ETHER / IP(src=SERVER, dst=CLIENT)


def client(flags: str) -> tuple[int, Packet]:
    return INSIDE, THERE / TCP(sport=40000, dport=80, flags=flags)


def server(flags: str) -> tuple[int, Packet]:
    return OUTSIDE, BACK / TCP(sport=80, dport=40000, flags=flags)


def query() -> tuple[int, Packet]:
    return INSIDE, THERE / UDP(sport=5000, dport=53) / Raw(b"query")


def reply() -> tuple[int, Packet]:
    return OUTSIDE, BACK / UDP(sport=53, dport=5000) / Raw(b"reply")


def ping(identifier: int = 7) -> tuple[int, Packet]:
    return INSIDE, THERE / ICMP(type="echo-request", id=identifier)


def pong(identifier: int = 7) -> tuple[int, Packet]:
    return OUTSIDE, BACK / ICMP(type="echo-reply", id=identifier)


@dataclass(frozen=True)
class Quiet:
    """So many seconds without a packet."""

    seconds: float


Step = tuple[tuple[int, Packet], bool] | Quiet


def matching(*packets: tuple[int, Packet]) -> list[Step]:
    return [(packet, MATCH) for packet in packets]


def refused(*packets: tuple[int, Packet]) -> list[Step]:
    return [(packet, NO_MATCH) for packet in packets]


HANDSHAKE = matching(client("S"), server("SA"), client("A"))
CLOSE = matching(client("FA"), server("A"), server("FA"), client("A"))
HALF_CLOSED = [*HANDSHAKE, *matching(client("FA"))]
FIVE_DAYS = 5 * 24 * 3600


@dataclass(frozen=True)
class Case:
    """Packets one after the other, whether each matches, and the state of the one connection then ("": none)."""

    steps: list[Step]
    state: str
    openers: int = 0
    timeouts: dict[str, int] = field(default_factory=dict)


CASES: dict[str, Case] = {
    # TCP: opening
    "a SYN opens": Case(matching(client("S")), "SYN_SENT"),
    "a SYN may be sent again": Case(matching(client("S"), client("S")), "SYN_SENT"),
    "a SYN with ECE and CWR opens": Case(matching(client("SEC")), "SYN_SENT"),
    "a SYN|ACK answers": Case(matching(client("S"), server("SA"), server("SA")), "SYN_RECEIVED"),
    "a handshake": Case(HANDSHAKE, "ESTABLISHED"),
    "the server may not open": Case(refused(server("S")), ""),
    "nor may it after being refused": Case(refused(server("S"), server("SA"), server("A")), ""),
    "a configured port may open": Case(matching(server("S"), client("SA"), server("A")), "ESTABLISHED", 1 << 2),
    "then port 1 may not": Case(refused(client("S")), "", 1 << 2),
    "port 63 is the last that may": Case([((63, client("S")[1]), MATCH)], "SYN_SENT", 2**64 - 1),
    "port 64 may never": Case([((64, client("S")[1]), NO_MATCH)], "", 2**64 - 1),
    "port 65 is not port 1": Case([((65, client("S")[1]), NO_MATCH)], ""),
    "simultaneous open": Case(
        matching(client("S"), server("S"), client("SA"), server("SA")), "ESTABLISHED", 1 << 1 | 1 << 2
    ),
    "simultaneous open by one that may not": Case([*matching(client("S")), *refused(server("S"))], "SYN_SENT"),
    "an ACK before the SYN|ACK": Case([*matching(client("S")), *refused(client("A"))], "SYN_SENT"),
    "an ACK in place of the SYN|ACK": Case([*matching(client("S")), *refused(server("A"))], "SYN_SENT"),
    "a SYN|ACK of the opener's own": Case([*matching(client("S")), *refused(client("SA"))], "SYN_SENT"),
    "another port's SYN|ACK": Case(
        [*matching(client("S")), *refused((OUTSIDE, BACK / TCP(sport=81, dport=40000, flags="SA")))], "SYN_SENT"
    ),
    # TCP: out of the blue
    **{
        f"{flags or 'no flags'} out of the blue": Case(refused(client(flags), server(flags)), "")
        for flags in ("A", "SA", "FA", "R", "RA", "PA", "F", "", "SF", "SR", "FSRPAU", "FPU")
    },
    # TCP: open
    "data both ways": Case(
        [*HANDSHAKE, *matching(client("PA"), server("A"), server("PA"), client("A"))], "ESTABLISHED"
    ),
    "segments no TCP sends": Case([*HANDSHAKE, *refused(client("SF"), client(""), server("FPU"))], "ESTABLISHED"),
    "a SYN of the opener in mid-connection": Case([*HANDSHAKE, *matching(client("S"), server("A"))], "ESTABLISHED"),
    "a SYN of the server in mid-connection": Case([*HANDSHAKE, *refused(server("S"))], "ESTABLISHED"),
    "a lost last ACK of the handshake": Case([*HANDSHAKE, *matching(server("SA"), client("A"))], "ESTABLISHED"),
    # TCP: closing
    "the client closes": Case([*HANDSHAKE, *CLOSE], "TIME_WAIT"),
    "the server closes": Case(
        [*HANDSHAKE, *matching(server("FA"), client("A"), client("FA"), server("A"))], "TIME_WAIT"
    ),
    "half closed, data goes on": Case([*HALF_CLOSED, *matching(server("PA"), client("A"))], "FIN_WAIT"),
    "a FIN sent again": Case([*HALF_CLOSED, *matching(client("FA"))], "FIN_WAIT"),
    "a FIN for the ACK of the handshake": Case(matching(client("S"), server("SA"), client("FA")), "FIN_WAIT"),
    "both FINs": Case([*HALF_CLOSED, *matching(server("FA"))], "LAST_ACK"),
    "both FINs, one again": Case([*HALF_CLOSED, *matching(server("FA"), server("FA"))], "LAST_ACK"),
    "simultaneous close": Case([*HALF_CLOSED, *matching(server("FA"), server("A"), client("A"))], "TIME_WAIT"),
    "a FIN again in TIME_WAIT": Case([*HANDSHAKE, *CLOSE, *matching(server("FA"))], "TIME_WAIT"),
    "a SYN|ACK is not the last ACK": Case([*HALF_CLOSED, *matching(server("FA"), server("SA"))], "LAST_ACK"),
    "a SYN after the close": Case([*HANDSHAKE, *CLOSE, *matching(client("S"))], "SYN_SENT"),
    "the server's SYN after the close": Case([*HANDSHAKE, *CLOSE, *refused(server("S"))], "TIME_WAIT"),
    "a reset by the server": Case(
        [*HANDSHAKE, *matching(server("R")), *refused(client("A"), server("PA"), client("FA"))], "CLOSED"
    ),
    "a reset by the client": Case([*HANDSHAKE, *matching(client("RA")), *refused(server("A"))], "CLOSED"),
    "a reset answered with a reset": Case([*HANDSHAKE, *matching(server("R"), client("R"))], "CLOSED"),
    "a refused connection": Case([*matching(client("S"), server("RA")), *refused(server("SA"))], "CLOSED"),
    "a SYN after a reset": Case([*HANDSHAKE, *matching(server("R"), client("S"), server("SA"))], "SYN_RECEIVED"),
    "the server's SYN after a reset": Case([*HANDSHAKE, *matching(server("R")), *refused(server("S"))], "CLOSED"),
    # UDP and ICMP echo
    "a query": Case(matching(query()), "UNREPLIED"),
    "a query and its reply": Case(matching(query(), reply(), query()), "REPLIED"),
    "a reply to no query": Case(refused(reply()), ""),
    "a reply from another port": Case(
        [*matching(query()), *refused((OUTSIDE, BACK / UDP(sport=54, dport=5000)))], "UNREPLIED"
    ),
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
    "an ICMP error": Case(
        [*matching(query()), *refused((OUTSIDE, BACK / ICMP(type=3, code=3) / bytes(query()[1])[14:42]))], "UNREPLIED"
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
    "quiet when half closed": Case([*HALF_CLOSED, Quiet(121), *refused(server("PA"))], "FIN_WAIT"),
    "quiet before the last ACK": Case(
        [*HALF_CLOSED, *matching(server("FA")), Quiet(31), *refused(client("A"))], "LAST_ACK"
    ),
    "quiet in TIME_WAIT": Case([*HANDSHAKE, *CLOSE, Quiet(121), *refused(server("FA"))], "TIME_WAIT"),
    "quiet after a reset": Case([*HANDSHAKE, *matching(server("R")), Quiet(11), *refused(server("R"))], "CLOSED"),
    "a late reply": Case([*matching(query()), Quiet(31), *refused(reply())], "UNREPLIED"),
    "a late reply in a dialogue": Case([*matching(query(), reply()), Quiet(119), *matching(reply())], "REPLIED"),
    "a dialogue that ended": Case([*matching(query(), reply()), Quiet(121), *refused(reply())], "REPLIED"),
    "a late reply to an echo": Case([*matching(ping()), Quiet(31), *refused(pong())], "UNREPLIED"),
    "a timeout of one's own": Case(
        [*HANDSHAKE, Quiet(9), *matching(server("A")), Quiet(11), *refused(server("A"))],
        "ESTABLISHED",
        timeouts={"ESTABLISHED": 10},
    ),
    "the longest timeout": Case(
        [*HANDSHAKE, Quiet(2**32 - 2), *matching(server("A"))], "ESTABLISHED", timeouts={"ESTABLISHED": 2**32 - 1}
    ),
    "a packet seen later by another CPU": Case([*HANDSHAKE, Quiet(-3600), *matching(server("A"))], "ESTABLISHED"),
    # Shapes
    "behind one tag": Case(
        matching((INSIDE, ETHER / Dot1Q(vlan=5) / client("S")[1][IP]), server("SA")), "SYN_RECEIVED"
    ),
    "behind two tags": Case(
        matching((INSIDE, ETHER / Dot1AD() / Dot1Q() / client("S")[1][IP]), server("SA")), "SYN_RECEIVED"
    ),
    "behind three tags": Case(refused((INSIDE, ETHER / Dot1Q() / Dot1Q() / Dot1Q() / client("S")[1][IP])), ""),
    "IPv4 options": Case(
        matching((INSIDE, ETHER / IP(src=CLIENT, dst=SERVER, options=[b"\x01" * 12]) / client("S")[1][TCP])),
        "SYN_SENT",
    ),
    "a first fragment": Case(
        matching((INSIDE, ETHER / IP(src=CLIENT, dst=SERVER, flags="MF") / client("S")[1][TCP])), "SYN_SENT"
    ),
    "a later fragment": Case(
        [*HANDSHAKE, *refused((INSIDE, ETHER / IP(src=CLIENT, dst=SERVER, frag=1) / client("A")[1][TCP]))],
        "ESTABLISHED",
    ),
    "ARP": Case(refused((INSIDE, ETHER / ARP())), ""),
    "IPv6": Case(refused((INSIDE, ETHER / IPv6(src="::1", dst="::2") / client("S")[1][TCP])), ""),
    "another protocol": Case(refused((INSIDE, ETHER / IP(src=CLIENT, dst=SERVER, proto=47) / Raw(bytes(40)))), ""),
    "a data offset of 16": Case(refused((INSIDE, THERE / TCP(sport=40000, dport=80, dataofs=4))), ""),
    "a data offset beyond the segment": Case(refused((INSIDE, THERE / TCP(sport=40000, dport=80, dataofs=6))), ""),
    "TCP options": Case(matching((INSIDE, THERE / TCP(sport=40000, dport=80, options=[("MSS", 1460)]))), "SYN_SENT"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_sequences(firewall: Firewall, case: Case) -> None:
    firewall.configure(case.openers, case.timeouts)
    for number, step in enumerate(case.steps, 1):
        if isinstance(step, Quiet):
            firewall.age(step.seconds)
        else:
            (port, packet), matches = step
            assert firewall.matches(port, packet) is matches, f"step {number}: {packet.summary()}"
    assert firewall.state_names == ([case.state] if case.state else [])


@pytest.mark.parametrize(("client_address", "server_address"), [(CLIENT, SERVER), (SERVER, CLIENT), (CLIENT, CLIENT)])
def test_an_entry_says_who_did_what(firewall: Firewall, client_address: str, server_address: str) -> None:
    """The side with the lower address and port is side 0, whichever opened; 53 and 512 are in
    another order when their bytes are swapped."""
    there = ETHER / IP(src=client_address, dst=server_address) / UDP(sport=512, dport=53) / Raw(b"query")
    back = ETHER / IP(src=server_address, dst=client_address) / UDP(sport=53, dport=512)
    assert firewall.matches(INSIDE, there)
    assert firewall.matches(INSIDE, there)
    assert firewall.matches(OUTSIDE, back)

    opener = int((client_address, 512) > (server_address, 53))
    ends = sorted([(IP(src=client_address).src, 512), (IP(src=server_address).src, 53)])
    ((key, connection),) = firewall.connections.items()
    first, second, *ports, protocol = KEY.unpack(key)
    assert (protocol, key[-3:]) == (17, bytes(3))
    assert [
        (".".join(map(str, address)), int.from_bytes(port.to_bytes(2, "little"), "big"))
        for address, port in zip((first, second), ports, strict=True)
    ] == ends
    _, *packets_bytes, _, side, finished = connection
    assert (side, finished) == (opener, 0)
    assert packets_bytes[opener] == 2
    assert packets_bytes[1 - opener] == 1
    assert packets_bytes[2 + opener] == 2 * (20 + 8 + 5)
    assert packets_bytes[3 - opener] == 20 + 8


FLAGS = st.sampled_from(("S", "SA", "A", "PA", "FA", "R", "RA", "", "SF", "FPU"))
STEPS = st.lists(st.tuples(st.sampled_from((client, server)), FLAGS), max_size=20)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_nothing_matches_that_the_inside_did_not_ask_for(
    firewall: Firewall, steps: list[tuple[Callable[[str], tuple[int, Packet]], str]]
) -> None:
    """Before the inside's SYN nothing matches, and after a RST nothing but RSTs until the next SYN; the outside's SYN
    and segments that no TCP sends never do."""
    firewall.forget()
    is_open = is_reset = False
    for sender, flags in steps:
        port, packet = sender(flags)
        matches = firewall.matches(port, packet)
        if port == INSIDE and flags == "S":
            assert matches
            is_open, is_reset = True, False
        elif flags in {"S", "", "SF", "FPU"} or not is_open or (is_reset and "R" not in flags):
            assert not matches
        elif "R" in flags:
            assert matches
            is_reset = True


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_garbage_from_outside_never_matches(firewall: Firewall, data: st.DataObject) -> None:
    """Whatever is done to packets of a connection that does not exist."""
    frame = bytearray(bytes(data.draw(st.sampled_from((server("S"), server("A"), reply(), pong())))[1]))
    for position in data.draw(st.lists(st.integers(0, len(frame) - 1), max_size=4)):
        frame[position] = data.draw(st.integers(0, 255))
    length = data.draw(st.integers(14, len(frame)))
    assert not firewall.matches(OUTSIDE, bytes(frame[:length]))


def test_the_kernel_takes_it_as_a_global_function(tmp_path: Path) -> None:
    build(tmp_path)
    program = elf.load((tmp_path / "firewall.o").read_bytes())
    runtime = Runtime.read(lambda name: (tmp_path / "runtime" / f"{name}.o").read_bytes())
    image = compile_trial(Filter(1, 0, program), {INSIDE: 1}, runtime)
    with ExitStack() as owned:
        shared = {item.name: owned.enter_context(create_map(item.name, item.spec)) for item in image.maps}
        owned.enter_context(LoadedImage.load("trial", image, shared))
