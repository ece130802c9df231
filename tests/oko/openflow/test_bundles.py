from __future__ import annotations

import pytest

from ofext.bundles import BundleAdd, BundleCommand, BundleControl, BundleError
from ofext.messages import BarrierReply, BarrierRequest, FlowMod, Message, decode, encode, header
from oko.openflow import bundles
from oko.openflow.bundles import Bundles
from oko.switch.limits import Limits
from tests.oko.conftest import Rig
from tests.oko.openflow.peer import Peer, add, add_group, add_meter, delete, error_name

pytestmark = pytest.mark.needs_bpf

OPEN, CLOSE, COMMIT, DISCARD = (
    BundleCommand.OPEN_REQUEST,
    BundleCommand.CLOSE_REQUEST,
    BundleCommand.COMMIT_REQUEST,
    BundleCommand.DISCARD_REQUEST,
)
ATOMIC_ORDERED = 3
SIMPLE = add("in_port=1,actions=output:2")


@pytest.fixture
def peer(rig: Rig) -> Peer:
    return Peer(rig)


def control(command: int, *, number: int = 1, flags: int = ATOMIC_ORDERED) -> BundleControl:
    return BundleControl(number, command, flags)


class Bundler:
    """Sends one message after the other and counts transaction ids, which the messages in bundles repeat."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._xid = 0

    def send(self, message: Message) -> list[tuple[int, Message]]:
        """Transaction ids and answers."""
        self._xid += 1
        return [(header(answer).xid, decode(answer)[0]) for answer in self._peer.raw([encode(message, self._xid)])]

    def put(self, message: Message, *, number: int = 1, flags: int = ATOMIC_ORDERED) -> list[str]:
        """Add a message to a bundle; the names of the errors."""
        inner = encode(message, self._xid + 1)
        return [error_name(answer) for _, answer in self.send(BundleAdd(number, flags, inner))]

    def control(self, command: int, *, number: int = 1, flags: int = ATOMIC_ORDERED) -> list[str]:
        """Names of errors; a success answers with the reply to the command, and has none."""
        answers = [answer for _, answer in self.send(control(command, number=number, flags=flags))]
        if answers == [BundleControl(number, command + 1, flags)]:
            return []
        return [error_name(answer) for answer in answers]


@pytest.fixture
def bundler(peer: Peer) -> Bundler:
    return Bundler(peer)


def test_a_bundle_takes_effect_when_it_is_committed(rig: Rig, bundler: Bundler) -> None:
    assert bundler.control(OPEN) == []
    for message in (
        add_meter("meter=1,kbps,bands=type=drop,rate=1000"),
        add_group("group_id=1,type=all,bucket=actions=output:2"),
        add("in_port=1,actions=meter:1,group:1"),
        SIMPLE,
        delete("in_port=1"),
        add("in_port=2,actions=output:1"),
    ):
        assert bundler.put(message) == []
    assert len(rig.bridge.tables) == len(rig.bridge.tables.groups) == 0
    assert bundler.control(CLOSE) == []
    assert bundler.control(COMMIT) == []
    assert len(rig.bridge.tables) == len(rig.bridge.tables.groups) == len(rig.bridge.tables.meters) == 1


def test_a_bundle_without_messages(bundler: Bundler) -> None:
    assert bundler.control(OPEN) == []
    assert bundler.control(COMMIT) == []


def test_a_bundle_is_opened_by_its_first_message(rig: Rig, bundler: Bundler) -> None:
    assert bundler.put(SIMPLE) == []
    assert bundler.control(COMMIT) == []
    assert len(rig.bridge.tables) == 1


def test_a_bundle_fails_whole(rig: Rig, bundler: Bundler, peer: Peer) -> None:
    assert peer.ask(SIMPLE) == []
    assert bundler.control(OPEN) == []  # transaction 1
    bad = add("in_port=2,actions=group:7")
    for message in (delete(""), bad, add("in_port=2,actions=output:1")):
        assert bundler.put(message) == []
    first, second = bundler.send(control(COMMIT))
    assert (first[0], error_name(first[1])) == (3, "bad-action/bad-out-group")
    assert first[1].data == encode(bad, 3)  # type: ignore[union-attr]
    assert (second[0], error_name(second[1])) == (5, "bundle-failed/msg-failed")
    assert len(rig.bridge.tables) == 1
    assert bundler.control(COMMIT) == ["bundle-failed/bad-id"]


def test_a_bundle_beyond_the_limit_of_rules(rig: Rig, bundler: Bundler, peer: Peer) -> None:
    rig.bridge.limits = Limits(rules=2)
    assert peer.ask(SIMPLE, add("in_port=2,actions=drop")) == []
    assert bundler.control(OPEN) == []
    for message in (delete("in_port=2"), add("arp,actions=drop"), add("ip,actions=drop")):
        assert bundler.put(message) == []
    assert bundler.control(COMMIT) == ["flow-mod-failed/table-full", "bundle-failed/msg-failed"]
    assert len(rig.bridge.tables) == 2


def test_what_is_wrong_by_itself_is_said_at_once(rig: Rig, bundler: Bundler) -> None:
    assert bundler.control(OPEN) == []
    assert bundler.put(FlowMod(command=9)) == ["flow-mod-failed/bad-command"]
    assert bundler.put(BarrierRequest()) == ["bundle-failed/msg-unsup"]
    wrong_xid = BundleAdd(1, ATOMIC_ORDERED, encode(SIMPLE, 77))
    assert [error_name(answer) for _, answer in bundler.send(wrong_xid)] == ["bundle-failed/msg-bad-xid"]
    assert bundler.put(SIMPLE) == []
    assert bundler.control(COMMIT) == []
    assert len(rig.bridge.tables) == 1


def test_a_discarded_bundle_is_gone(rig: Rig, bundler: Bundler) -> None:
    assert bundler.put(SIMPLE) == []
    assert bundler.control(DISCARD) == []
    assert bundler.control(COMMIT) == ["bundle-failed/bad-id"]
    assert len(rig.bridge.tables) == 0


@pytest.mark.parametrize("command", [CLOSE, COMMIT, DISCARD])
def test_a_bundle_that_is_not_open(bundler: Bundler, command: int) -> None:
    assert bundler.control(command) == ["bundle-failed/bad-id"]


def test_requests_that_do_not_fit_end_the_bundle(bundler: Bundler) -> None:
    for number, (command, flags, name) in enumerate(
        [
            (OPEN, ATOMIC_ORDERED, "bad-id"),
            (CLOSE, 1, "bad-flags"),
            (COMMIT, 1, "bad-flags"),
        ]
    ):
        assert bundler.control(OPEN, number=number) == []
        assert bundler.control(command, number=number, flags=flags) == [f"bundle-failed/{name}"]
        assert bundler.control(DISCARD, number=number) == ["bundle-failed/bad-id"]
    for refused in (
        lambda: bundler.control(CLOSE),
        lambda: bundler.put(SIMPLE),
    ):
        assert bundler.control(OPEN) == []
        assert bundler.control(CLOSE) == []
        assert refused() == ["bundle-failed/bundle-closed"]
        assert bundler.control(DISCARD) == ["bundle-failed/bad-id"]
    assert bundler.put(SIMPLE) == []
    assert bundler.put(SIMPLE, flags=0) == ["bundle-failed/bad-flags"]
    assert bundler.control(COMMIT) == ["bundle-failed/bad-id"]


@pytest.mark.parametrize(("command", "flags", "name"), [(OPEN, 4, "bad-flags"), (8, 3, "bad-type")])
def test_unknown_flags_and_commands(bundler: Bundler, command: int, flags: int, name: str) -> None:
    assert bundler.control(command, flags=flags) == [f"bundle-failed/{name}"]


def test_limits(bundler: Bundler, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(bundles.BUNDLE_LIMIT):
        assert bundler.control(OPEN, number=number) == []
    assert bundler.control(OPEN, number=99) == ["bundle-failed/out-of-bundles"]
    assert bundler.put(SIMPLE, number=99) == ["bundle-failed/out-of-bundles"]
    monkeypatch.setattr(bundles, "MESSAGE_LIMIT", 2)
    assert bundler.put(SIMPLE, number=0) == []
    assert bundler.put(SIMPLE, number=1) == []
    assert bundler.put(SIMPLE, number=1) == ["bundle-failed/msg-too-many"]


def test_limit_in_bytes(rig: Rig, bundler: Bundler, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is of all bundles of a connection together; what was added stays, and room comes back with a bundle's end."""
    size = len(encode(SIMPLE, 1))
    monkeypatch.setattr(bundles, "BYTE_LIMIT", 2 * size)
    for number in (0, 1):
        assert bundler.put(SIMPLE, number=number) == []
    assert bundler.put(SIMPLE, number=1) == ["bundle-failed/msg-too-many"]
    assert bundler.control(DISCARD, number=0) == []
    assert bundler.put(add("in_port=2,actions=output:1"), number=1) == []
    assert bundler.control(COMMIT, number=1) == []
    assert len(rig.bridge.tables) == 2


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("MESSAGE_LIMIT", "bundle 7: messages in the bundles of a connection: 1 used, limit 0; commit or discard"),
        ("BYTE_LIMIT", "bundle 7: bytes of messages in the bundles of a connection: {size} used, limit 0; commit or"),
    ],
)
def test_what_is_said_beyond_a_limit(rig: Rig, monkeypatch: pytest.MonkeyPatch, limit: str, words: str) -> None:
    monkeypatch.setattr(bundles, limit, 0)
    message = encode(SIMPLE, 1)
    with pytest.raises(BundleError, match=words.format(size=len(message))):
        Bundles(rig.bridge, lambda _: None, lambda *_: b"").add(BundleAdd(7, ATOMIC_ORDERED, message), 1)


def test_bundles_belong_to_their_connection(rig: Rig, bundler: Bundler) -> None:
    assert bundler.control(OPEN) == []
    other = Peer(rig)
    assert other.refusals(control(COMMIT)) == ["bundle-failed/bad-id"]
    assert other.ask(control(OPEN), BarrierRequest())[1:] == [BarrierReply()]
