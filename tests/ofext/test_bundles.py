"""Bundles: the bytes of os-ken, what ovs-ofctl sends and prints, and what is malformed."""

from __future__ import annotations

import socketserver
import threading
from pathlib import Path
from subprocess import run

import pytest
from os_ken.ofproto import ofproto_v1_3 as osken_numbers
from os_ken.ofproto import ofproto_v1_3_parser as osken

from ofext.answers import refusal, remote_error
from ofext.bundles import ONF, BundleAdd, BundleCommand, BundleControl, BundleError, BundleFlag, BundleProperty
from ofext.errors import BUNDLE_ERRORS
from ofext.framing import Splitter
from ofext.messages import (
    BarrierReply,
    BarrierRequest,
    EchoRequest,
    Experimenter,
    ExperimenterError,
    FlowMod,
    Hello,
    Message,
    decode,
    encode,
)
from ofext.multipart import (
    MultipartReply,
    MultipartRequest,
    Port,
    PortDescReply,
    PortDescRequest,
    TableFeaturesReply,
    TableFeaturesRequest,
)
from oko.errors import ProtocolError

from .features import FEATURES
from .oracles import OSKEN, needs_ovs_ofctl, osken_built, osken_read, printed

FLAGS = BundleFlag.ATOMIC | BundleFlag.ORDERED
FLOW = encode(FlowMod(priority=9), 5)


def test_control_is_that_of_os_ken() -> None:
    ours = BundleControl(7, BundleCommand.OPEN_REQUEST, FLAGS)
    data = osken_built(osken.ONFBundleCtrlMsg(OSKEN, 7, 0, 3, []))
    assert encode(ours, 5) == data
    assert decode(data) == (ours, 5)
    read = osken_read(encode(BundleControl(7, BundleCommand.COMMIT_REPLY, 3), 5))
    assert (read.bundle_id, read.type, read.flags) == (7, osken_numbers.ONF_BCT_COMMIT_REPLY, 3)


def test_add_is_that_of_os_ken() -> None:
    flow = osken.OFPFlowMod(OSKEN, priority=9, out_port=0xFFFFFFFF, out_group=0xFFFFFFFF, match=osken.OFPMatch())
    data = osken_built(osken.ONFBundleAddMsg(OSKEN, 7, 3, flow, []))
    message, xid = decode(data)
    assert isinstance(message, BundleAdd)
    assert (message.bundle_id, message.flags, message.properties, xid) == (7, 3, (), 5)
    assert decode(message.message) == (FlowMod(priority=9), 5)
    assert encode(message, 5) == data


def test_properties_begin_at_a_multiple_of_eight() -> None:
    echo = encode(EchoRequest(b"odd"), 5)
    message = BundleAdd(7, 0, echo, (BundleProperty(0xFFFF, b"12345678"),))
    data = encode(message, 5)
    assert data[24:] == echo + bytes(5) + bytes.fromhex("ffff 000c") + b"12345678" + bytes(4)
    assert decode(data) == (message, 5)


@pytest.mark.parametrize("padding", range(6))
def test_padding_without_properties_is_ignored(padding: int) -> None:
    echo = encode(EchoRequest(b"odd"), 5)
    data = bytearray(encode(BundleAdd(7, 0, echo), 5) + bytes(padding))
    data[2:4] = len(data).to_bytes(2, "big")
    assert decode(bytes(data)) == (BundleAdd(7, 0, echo), 5)


def onf(exp_type: int, body: str) -> bytes:
    content = ONF.to_bytes(4, "big") + exp_type.to_bytes(4, "big") + bytes.fromhex(body)
    return bytes([4, 4]) + (8 + len(content)).to_bytes(2, "big") + bytes(4) + content


MALFORMED = {
    "control cut": (onf(2300, "00000007 0000 00"), (1, 6)),
    "control with half a property": (onf(2300, "00000007 0000 0000 ffff"), (1, 6)),
    "add cut": (onf(2301, "00000007 0000"), (0xFFFF, 2308)),
    "add without a message": (onf(2301, "00000007 0000 0000"), (0xFFFF, 2308)),
    "add with half a header": (onf(2301, "00000007 0000 0000 04020008 000000"), (0xFFFF, 2308)),
    "message of length 7": (onf(2301, "00000007 0000 0000 04020007 00000000"), (0xFFFF, 2308)),
    "message beyond the end": (onf(2301, "00000007 0000 0000 04020009 00000000"), (0xFFFF, 2308)),
    "half a property": (onf(2301, "00000007 0000 0000 04020008 00000000 ffff"), (1, 6)),
}


@pytest.mark.parametrize(("data", "code"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed(data: bytes, code: tuple[int, int]) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(data)
    assert (caught.value.error_type, caught.value.error_code) == code


UNWRITABLE = {
    "no message": BundleAdd(7, 0, b""),
    "a message with another length": BundleAdd(7, 0, FLOW[:-1]),
    "bundle of 33 bits": BundleAdd(1 << 32, 0, FLOW),
}


@pytest.mark.parametrize("message", UNWRITABLE.values(), ids=UNWRITABLE.keys())
def test_a_message_that_does_not_fit_is_refused(message: BundleAdd) -> None:
    with pytest.raises(ProtocolError):
        encode(message)


def test_other_messages_of_the_onf_are_kept() -> None:
    message = Experimenter(ONF, 1911, b"role status")
    assert decode(encode(message)) == (message, 0)


def test_errors_are_those_of_os_ken() -> None:
    theirs = {
        value for name, value in vars(osken_numbers).items() if name.startswith("ONFERR_ET_") and 2300 <= value < 2320
    }
    assert {kind.exp_type for kind in BUNDLE_ERRORS} == theirs


def test_an_error_there_and_back() -> None:
    answer = refusal(BundleError("bundle-failed/bad-id", "bundle 7 is not open"), FLOW)
    assert answer == ExperimenterError(2302, ONF, FLOW)
    assert str(remote_error(answer)) == "the switch answered bundle-failed/bad-id: There is no such bundle."


PRINTED: dict[str, tuple[Message, tuple[str, ...]]] = {
    "control": (
        BundleControl(7, BundleCommand.OPEN_REQUEST, FLAGS),
        ("bundle_id=0x7 type=OPEN_REQUEST flags=atomic ordered",),
    ),
    "reply": (BundleControl(7, BundleCommand.COMMIT_REPLY, 0), ("bundle_id=0x7 type=COMMIT_REPLY flags=0",)),
    "add": (BundleAdd(7, FLAGS, FLOW), ("bundle_id=0x7 flags=atomic ordered", "OFPT_FLOW_MOD", "ADD priority=9")),
    **{
        kind.name: (
            ExperimenterError(kind.exp_type, ONF, FLOW),
            (f"OFPBFC_{kind.name[14:].upper().replace('-', '_')}",),
        )
        for kind in BUNDLE_ERRORS
    },
}


@needs_ovs_ofctl
@pytest.mark.parametrize(("message", "expected"), PRINTED.values(), ids=PRINTED.keys())
def test_ovs_ofctl_prints(message: Message, expected: tuple[str, ...]) -> None:
    text = printed(message)
    assert all(part in text for part in expected), text


class Peer(socketserver.ThreadingUnixStreamServer):
    """The switch's end, as far as a bundle needs it. `seen`: what came, with transaction ids. (ovs-ofctl asks for table
    features and ports on connections of their own and keeps them while it sends the bundle.)"""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Connection)
        self.seen: list[tuple[Message, int]] = []


class Connection(socketserver.BaseRequestHandler):
    """One connection to a Peer."""

    def handle(self) -> None:
        splitter = Splitter()
        self.request.sendall(encode(Hello()))
        while data := self.request.recv(65536):
            for each in splitter.feed(data):
                message, xid = decode(each)
                self.server.seen.append((message, xid))  # type: ignore[attr-defined]
                answer = _answer(message)
                if answer is not None:
                    self.request.sendall(encode(answer, xid))


def _answer(message: Message) -> Message | None:
    match message:
        case MultipartRequest(TableFeaturesRequest()):
            return MultipartReply(TableFeaturesReply((FEATURES,)))
        case MultipartRequest(PortDescRequest()):
            return MultipartReply(PortDescReply((Port(2, bytes(6), "p2"),)))
        case BarrierRequest():
            return BarrierReply()
        case BundleControl(bundle_id, command, flags):
            return BundleControl(bundle_id, command + 1, flags)
    return None


@needs_ovs_ofctl
def test_ovs_ofctl_sends_a_bundle(tmp_path: Path) -> None:
    flows = tmp_path / "flows"
    flows.write_text("add priority=1,ip,actions=set_field:10.0.0.1->ip_dst,2\ndelete in_port=3\n")
    with Peer(tmp_path / "switch") as peer:
        threading.Thread(target=peer.serve_forever, args=(0.01,)).start()
        try:
            done = run(
                ["ovs-ofctl", "-O", "OpenFlow13", "--bundle", "add-flows", f"unix:{tmp_path / 'switch'}", str(flows)],
                capture_output=True,
                text=True,
                check=False,
                timeout=20,
            )
        finally:
            peer.shutdown()
    assert done.returncode == 0, done.stderr
    bundle = [message for message, _ in peer.seen if isinstance(message, BundleControl | BundleAdd)]
    commands = [message.type for message in bundle if isinstance(message, BundleControl)]
    assert commands == [BundleCommand.OPEN_REQUEST, BundleCommand.COMMIT_REQUEST]
    added = [decode(message.message)[0] for message in bundle if isinstance(message, BundleAdd)]
    assert [(mod.command, mod.priority) for mod in added if isinstance(mod, FlowMod)] == [(0, 1), (3, 0x8000)]
    for message, xid in peer.seen:
        assert decode(encode(message, xid)) == (message, xid)
        if isinstance(message, BundleAdd):
            assert decode(message.message)[1] == xid
