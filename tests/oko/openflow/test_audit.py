from __future__ import annotations

import logging

import pytest

from ofext.bundles import BundleCommand, BundleControl
from ofext.constants import Role
from ofext.extension import LoadFlag, MapDumpRequest, MapUpdate, Observe, ProgramUnload
from ofext.load import chunks
from ofext.messages import Message, RoleRequest
from ofext.multipart import MultipartRequest
from oko.errors import OkoError, UnknownProgram
from oko.openflow.audit import FIELDS, PERIOD, SHOWN, Audit
from oko.openflow.terms import Terms
from tests.oko.conftest import Rig
from tests.oko.openflow.peer import Peer, add

(LOAD,) = chunks(7, "firewall", b"an object")
(VERIFY,) = chunks(7, "firewall", b"an object", LoadFlag.VERIFY_ONLY)
PROGRAM = f"program 7, name firewall, sha256 {LOAD.digest.hex()}"
REFUSAL = OkoError("no")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (LOAD, f"she: load: {PROGRAM}: no"),
        (VERIFY, f"she: verify: {PROGRAM}: no"),
        (ProgramUnload(7), "she: unload: program 7: no"),
        (MapUpdate(7, 0, "hits"), "she: MapUpdate: program 7, map hits: no"),
        (Observe(0, ()), "she: Observe: no"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_said_of_a_refusal(message: Message, said: str, caplog: pytest.LogCaptureFixture) -> None:
    Audit("she").refused(message, REFUSAL)
    (record,) = caplog.records
    assert (record.levelno, record.message) == (logging.WARNING, said)


def test_values_for_machines(caplog: pytest.LogCaptureFixture) -> None:
    Audit("she").refused(LOAD, REFUSAL)
    assert getattr(caplog.records[0], FIELDS) == {
        "event": "load",
        "peer": "she",
        "program": 7,
        "name": "firewall",
        "sha256": LOAD.digest.hex(),
        "result": "no",
    }


def test_an_unload(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise UnknownProgram("program 7 is not loaded")

    with caplog.at_level(logging.INFO, "oko"):
        assert list(Audit("she").audited(ProgramUnload(7), iter(()))) == []
        with pytest.raises(UnknownProgram):
            list(Audit("she").audited(ProgramUnload(7), (answer for answer in iter(fails, ()))))  # type: ignore[arg-type, misc]
    assert [record.message for record in caplog.records] == [
        "she: unload: program 7: done",
        "she: unload: program 7: program 7 is not loaded",
    ]


def test_of_many_refusals_the_number_is_said(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    audit = Audit("she", lambda: now)
    for _ in range(SHOWN + 3):
        audit.refused(LOAD, REFUSAL)
    assert len(caplog.records) == SHOWN
    now = PERIOD
    audit.refused(LOAD, REFUSAL)
    assert [record.message for record in caplog.records[SHOWN:]] == [
        "she: 3 more refusals are not shown",
        f"she: load: {PROGRAM}: no",
    ]
    caplog.clear()
    for _ in range(SHOWN):
        audit.refused(LOAD, REFUSAL)
    audit.close()
    audit.close()
    assert caplog.records[-1].message == "she: 1 more refusals are not shown"
    assert len(caplog.records) == SHOWN


@pytest.mark.needs_bpf
def test_who_may_not_load_is_in_the_log(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    assert Peer(rig, terms=Terms("a stranger")).refusals(LOAD) == ["bad-request/eperm"]
    assert Peer(rig, terms=Terms("a stranger")).refusals(MultipartRequest(MapDumpRequest(7, 0, "flows"))) == [
        "bad-request/eperm"
    ]
    slave = Peer(rig, terms=Terms("a slave", may_load=True))
    slave.ask(RoleRequest(Role.SLAVE, 1))
    assert slave.refusals(LOAD, ProgramUnload(7)) == ["bad-request/is-slave"] * 2
    said = [record.message for record in caplog.records]
    assert said[0].startswith(f"a stranger: load: {PROGRAM}: ProgramLoad: connections of this endpoint may not load")
    assert said[1].startswith("a stranger: MapDumpRequest: program 7, map flows: MapDumpRequest: ")
    assert said[2:] == [
        f"a slave: load: {PROGRAM}: a slave may not send ProgramLoad",
        "a slave: unload: program 7: a slave may not send ProgramUnload",
    ]


@pytest.mark.needs_bpf
def test_why_a_change_is_refused_is_in_the_log(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    peer = Peer(rig)
    twice, nowhere = add("actions=output:1,output:1"), add("actions=output:9")
    assert peer.refusals(twice, nowhere) == ["bad-action/too-many", "bad-action/bad-out-port"]
    commit = BundleControl(1, BundleCommand.COMMIT_REQUEST)
    assert peer.refusals(commit) == ["bundle-failed/bad-id"]
    said = [record.message.partition(": ")[2] for record in caplog.records]
    assert said == [
        "FlowMod: the packet would leave twice by one port: name each port once",
        "FlowMod: output:9: the bridge has no port 9",
        "BundleControl: bundle 1 is not open",
    ]
