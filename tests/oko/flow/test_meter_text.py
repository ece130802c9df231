"""Meters as text. What ovs-ofctl reads is seen on the wire, as it prints no meter that it was not sent."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given

from oko.errors import BadMeter
from oko.flow.meter import Band, MeterSpec
from oko.flow.meter_text import parse_meter, print_meter
from tests.oko.flow.conftest import OvsOfctl
from tests.oko.flow.strategies import meters

READ = {
    "packets": ("meter=1,pktps,bands=type=drop,rate=100", MeterSpec(1, (Band(100),), packets=True)),
    "kilobits": ("meter=1,kbps,bands=type=drop,rate=100", MeterSpec(1, (Band(100),))),
    "number in hexadecimal": ("meter=0x10,kbps,bands=type=drop,rate=100", MeterSpec(16, (Band(100),))),
    "burst": (
        "meter=1,pktps,burst,bands=type=drop,rate=100,burst_size=10",
        MeterSpec(1, (Band(100, 10),), packets=True),
    ),
    "statistics": ("meter=1,kbps,stats,bands=type=drop,rate=100", MeterSpec(1, (Band(100),), stats=True)),
    "blanks": ("meter=1 pktps stats bands=type=drop rate=100", MeterSpec(1, (Band(100),), packets=True, stats=True)),
    "one band": ("meter=1,kbps,band=type=drop,rate=100", MeterSpec(1, (Band(100),))),
    "two bands": (
        "meter=1,kbps,burst,bands=type=drop,rate=100,burst_size=10,type=drop,rate=200,burst_size=5",
        MeterSpec(1, (Band(100, 10), Band(200, 5))),
    ),
}


@pytest.mark.parametrize(("text", "meter"), READ.values(), ids=READ.keys())
def test_parse(text: str, meter: MeterSpec) -> None:
    assert parse_meter(text) == meter


@pytest.mark.parametrize(("text", "meter"), READ.values(), ids=READ.keys())
def test_ovs_ofctl_reads_the_same(ovs_ofctl: OvsOfctl, text: str, meter: MeterSpec) -> None:
    for written in (text, print_meter(meter)):
        with switch() as (address, messages):
            done = ovs_ofctl("-O", "OpenFlow13", "add-meter", address, written)
            assert done.returncode == 0, done.stderr
        assert [decoded(message) for message in messages if message[1] == METER_MOD] == [meter]


def test_print() -> None:
    meter = MeterSpec(1, (Band(100, 10), Band(200)), packets=True)
    assert (
        print_meter(meter)
        == "meter=1,pktps,burst,bands=type=drop,rate=100,burst_size=10,type=drop,rate=200,burst_size=0"
    )
    assert print_meter(MeterSpec(2, (Band(1),))) == "meter=2,kbps,bands=type=drop,rate=1"


@given(meters())
def test_a_printed_meter_reads_back_as_itself(meter: MeterSpec) -> None:
    assert parse_meter(print_meter(meter)) == meter


REFUSED = {
    "no number": ("pktps,bands=type=drop,rate=1", "invalid-meter", "a meter needs meter=…"),
    "number 0": ("meter=0,kbps,bands=type=drop,rate=1", "invalid-meter", "0x0"),
    "number by name": ("meter=all,bands=type=drop,rate=1", "invalid-meter", "meter=all is no number"),
    "number twice": ("meter=1,meter=2,bands=type=drop,rate=1", "invalid-meter", "meter is given twice"),
    "unknown word": ("meter=1,pktbs,bands=type=drop,rate=1", "bad-flags", "did you mean pktps"),
    "flag with a value": ("meter=1,pktps=1,bands=type=drop,rate=1", "bad-flags", "pktps"),
    "both units": ("meter=1,pktps,kbps,bands=type=drop,rate=1", "bad-flags", "give kbps or pktps"),
    "no unit": ("meter=1,bands=type=drop,rate=1", "bad-flags", "give kbps or pktps"),
    "flag without a burst": ("meter=1,kbps,burst,bands=type=drop,rate=1", "bad-band", "needs burst_size=…"),
    "no bands": ("meter=1,pktps", "bad-band", "a meter needs bands"),
    "empty bands": ("meter=1,kbps,bands=", "bad-band", "a meter needs bands"),
    "rate before a band": ("meter=1,kbps,bands=rate=1,type=drop", "bad-band", "begin it with type=drop"),
    "remarking": (
        "meter=1,kbps,bands=type=dscp_remark,rate=1,prec_level=1",
        "bad-band",
        "type dscp_remark are not supported",
    ),
    "no rate": ("meter=1,kbps,bands=type=drop", "bad-band", "a band of this meter needs rate=…"),
    "no number in rate": ("meter=1,kbps,bands=type=drop,rate=x", "bad-rate", "rate=x is no number"),
    "rate too high": ("meter=1,kbps,bands=type=drop,rate=4294967296", "bad-rate", "out of range"),
    "rate twice": ("meter=1,kbps,bands=type=drop,rate=1,rate=2", "bad-band", "rate is given twice"),
    "burst too high": ("meter=1,kbps,burst,bands=type=drop,rate=1,burst_size=4294967296", "bad-burst", "out of range"),
    "burst without its flag": ("meter=1,kbps,bands=type=drop,rate=1,burst_size=1", "bad-flags", "needs the word burst"),
    "unknown word of a band": ("meter=1,kbps,bands=type=drop,rat=1", "bad-band", "did you mean rate?"),
    "too many bands": ("meter=1,kbps,bands=" + "type=drop,rate=1," * 5, "out-of-bands", "5 bands"),
}


@pytest.mark.parametrize(("text", "reason", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(text: str, reason: str, message: str) -> None:
    with pytest.raises(BadMeter) as refused:
        parse_meter(text)
    assert message in str(refused.value)
    assert refused.value.reason == reason


HELLO, ECHO_REQUEST, ECHO_REPLY, BARRIER_REQUEST, BARRIER_REPLY, METER_MOD = 0, 2, 3, 20, 21, 29
ANSWERS = {HELLO: HELLO, ECHO_REQUEST: ECHO_REPLY, BARRIER_REQUEST: BARRIER_REPLY}
OFPMF_PKTPS, OFPMF_STATS = 2, 8
OFPMBT_DROP = 1


@contextmanager
def switch() -> Iterator[tuple[str, list[bytes]]]:
    """A switch that says yes to everything one client sends: its address, and the messages that it got."""
    messages: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)

        def serve() -> None:
            with server.accept()[0] as client, client.makefile("rb") as stream:
                while len(header := stream.read(8)) == 8:
                    _, kind, length, xid = struct.unpack("!BBHI", header)
                    messages.append(header + stream.read(length - 8))
                    if kind in ANSWERS:
                        client.sendall(struct.pack("!BBHI", 4, ANSWERS[kind], 8, xid))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"tcp:127.0.0.1:{server.getsockname()[1]}", messages
        finally:
            thread.join()


def decoded(message: bytes) -> MeterSpec:
    """The meter of a meter_mod with drop bands (OpenFlow 1.3.5, 7.3.4.4)."""
    _, flags, number = struct.unpack_from("!HHI", message, 8)
    bands = []
    for kind, _, rate, burst, _ in struct.iter_unpack("!HHIII", message[16:]):
        assert kind == OFPMBT_DROP
        bands.append(Band(rate, burst))
    return MeterSpec(number, tuple(bands), packets=bool(flags & OFPMF_PKTPS), stats=bool(flags & OFPMF_STATS))
