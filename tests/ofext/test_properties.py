"""Table properties: what os-ken reads and builds, what ovs-ofctl prints, and what is malformed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from os_ken.ofproto import ofproto_v1_3_parser as osken

from ofext.messages import decode, encode
from ofext.multipart import (
    MultipartReply,
    MultipartRequest,
    TableFeatures,
    TableFeaturesReply,
    TableFeaturesRequest,
    TableProperty,
)
from ofext.oxm import OxmId
from ofext.properties import (
    ExperimenterProperty,
    ExperimenterPropertyMiss,
    FeatureId,
    InstructionIds,
    MatchIds,
    NextTables,
    Property,
    WriteActionIds,
)
from oko.errors import ProtocolError

from .features import FEATURES, FILTER_PROG, PROPERTIES
from .oracles import OSKEN, needs_ovs_ofctl, osken_built, osken_read, printed


def _theirs(part: Any) -> tuple[int, Any]:
    """Type and content of a property of os-ken, as ours would have it."""
    if hasattr(part, "table_ids"):
        return part.type, bytes(part.table_ids)
    if hasattr(part, "oxm_ids"):
        return part.type, [(each.type, bool(each.hasmask), each.length) for each in part.oxm_ids]
    ids = part.instruction_ids if hasattr(part, "instruction_ids") else part.action_ids
    return part.type, [each.type for each in ids]


def test_os_ken_reads_every_property() -> None:
    entry = osken_read(encode(MultipartReply(TableFeaturesReply((FEATURES,))))).body[0]
    assert (entry.table_id, entry.name, entry.metadata_match, entry.metadata_write) == (0, b"table0", 0xFF, 0xF)
    assert (entry.config, entry.max_entries) == (3, 1000)
    in_port = [("in_port", False, 4)]
    assert dict(_theirs(part) for part in entry.properties) == {
        **{0: [4, 1], 1: [4], 2: b"\1\2\3", 3: b"\2", 4: [0, 22], 5: [0], 6: [0, 22], 7: [22]},
        **{8: [*in_port, ("eth_src", True, 12)], 10: in_port},
        **{12: in_port, 13: [], 14: in_port, 15: in_port},
    }


def test_os_ken_builds_what_decode_reads() -> None:
    features = osken.OFPTableFeaturesStats(
        **{"table_id": 3, "name": b"t", "metadata_match": 1, "metadata_write": 2, "config": 3, "max_entries": 4},
        properties=[
            osken.OFPTableFeaturePropInstructions(0, instruction_ids=[osken.OFPInstructionId(4)]),
            osken.OFPTableFeaturePropNextTables(2, table_ids=[4, 5]),
            osken.OFPTableFeaturePropActions(4, action_ids=[osken.OFPActionId(0), osken.OFPActionId(22)]),
            osken.OFPTableFeaturePropOxm(8, oxm_ids=[osken.OFPOxmId("eth_src", hasmask=True)]),
            osken.OFPTableFeaturePropExperimenter(0xFFFE, exp_type=9, experimenter=0x2320, data=[0x31323334]),
        ],
    )
    expected = TableFeatures(
        *(3, "t", 1, 2, 3, 4),
        (
            InstructionIds((FeatureId(4),)),
            NextTables(b"\4\5"),
            WriteActionIds((FeatureId(0), FeatureId(22))),
            MatchIds((OxmId(0x8000, 4, True, 0),)),
            ExperimenterProperty(0x2320, 9, b"1234"),
        ),
    )
    data = osken_built(osken.OFPTableFeaturesStatsRequest(OSKEN, 0, [features]))
    message = MultipartRequest(TableFeaturesRequest((expected,)))
    assert decode(data) == (message, 5)
    assert encode(message, 5) == data


@needs_ovs_ofctl
def test_ovs_ofctl_prints_every_property() -> None:
    text = printed(MultipartReply(TableFeaturesReply((FEATURES,))))
    expected = """
  table 0 ("table0"):
    metadata: match=0xff write=0xf
    max_entries=1000
    instructions (other than table miss):
      next tables: 1-3
      instructions: apply_actions goto_table
      Write-Actions and Apply-Actions features:
        actions: output group
        supported on Set-Field: in_port_oxm
    instructions (table miss):
      next tables: 2
      instructions: apply_actions
      Write-Actions features:
        actions: output
      Apply-Actions features:
        actions: group
        supported on Set-Field: in_port_oxm
    matching:
      arbitrary mask: eth_src
      exact match or wildcard: in_port_oxm
"""
    assert expected.split() == text.split()[4:]


KEPT: dict[str, Property | TableProperty] = {
    "unknown": TableProperty(9, b"12345"),
    "experimenter": ExperimenterProperty(0x2320, 9, b"123"),
    "experimenter, table miss": ExperimenterPropertyMiss(0x2320, 9),
    "experimenter's instruction": InstructionIds((FeatureId(0xFFFF, b"12345678"), FeatureId(4))),
    "experimenter's field": MatchIds((FILTER_PROG,)),
}


@pytest.mark.parametrize("part", [*KEPT.values(), *PROPERTIES], ids=lambda part: type(part).__name__)
def test_properties_there_and_back(part: Property | TableProperty) -> None:
    message = MultipartReply(TableFeaturesReply((replace(FEATURES, properties=(part,)),)))
    assert decode(encode(message)) == (message, 0)


def test_a_known_property_may_be_given_as_bytes() -> None:
    raw = replace(FEATURES, properties=(TableProperty(2, b"\1\2\3"),))
    typed = replace(FEATURES, properties=(NextTables(b"\1\2\3"),))
    assert encode(MultipartReply(TableFeaturesReply((raw,)))) == encode(MultipartReply(TableFeaturesReply((typed,))))


MALFORMED = {
    "header cut": "0000 00",
    "beyond the entry": "0002 0010 00000000",
    "without its padding": "0002 0005 01",
    "half an id": "0000 0006 0004 0000",
    "id of length 3": "0000 0008 0004 0003",
    "half an OXM id": "0008 0006 8000 0000",
    "OXM id without experimenter": "0008 0008 ffff0208",
    "experimenter cut": "fffe 0008 00002320",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed(data: str) -> None:
    body = bytes.fromhex(data)
    entry = (64 + len(body)).to_bytes(2, "big") + bytes(62) + body
    content = bytes.fromhex("000c 0000 00000000") + entry
    with pytest.raises(ProtocolError) as caught:
        decode(bytes([4, 19]) + (8 + len(content)).to_bytes(2, "big") + bytes(4) + content)
    assert (caught.value.error_type, caught.value.error_code) == (13, 3)


UNWRITABLE = {
    "experimenter missing": OxmId(0xFFFF, 1, False, 8),
    "experimenter of a basic field": OxmId(0x8000, 1, False, 8, 7),
    "field of 8 bits": OxmId(0x8000, 128, False, 8),
    "experimenter of 33 bits": OxmId(0xFFFF, 1, False, 8, 1 << 32),
}


@pytest.mark.parametrize("oxm_id", UNWRITABLE.values(), ids=UNWRITABLE.keys())
def test_an_id_that_does_not_fit_is_refused(oxm_id: OxmId) -> None:
    with pytest.raises(ProtocolError):
        encode(MultipartReply(TableFeaturesReply((replace(FEATURES, properties=(MatchIds((oxm_id,)),)),))))
