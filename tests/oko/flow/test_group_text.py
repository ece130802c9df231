"""Groups as text; ovs-ofctl is the oracle."""

from __future__ import annotations

import re

import pytest
from hypothesis import given

from oko.errors import BadAction, BadGroup, FlowError
from oko.flow.action import Output
from oko.flow.group import Bucket, GroupSpec, GroupType
from oko.flow.group_text import parse_group, print_group
from tests.oko.flow.conftest import OvsOfctl
from tests.oko.flow.strategies import groups

AGREED = {
    "select": (
        "group_id=1,type=select,bucket=weight:10,watch_port:2,actions=output:1,bucket=output:2",
        "group_id=1,type=select,bucket=weight:10,watch_port:2,actions=output:1,bucket=actions=output:2",
    ),
    "all": ("group_id=1,type=all,bucket=output:1", "group_id=1,type=all,bucket=actions=output:1"),
    "indirect": ("group_id=1,type=indirect,bucket=actions=drop", "group_id=1,type=indirect,bucket=actions=drop"),
    "fast failover": (
        "group_id=1,type=fast_failover,bucket=watch_group:2,output:1,bucket=watch_port:3,2",
        "group_id=1,type=ff,bucket=watch_group:2,actions=output:1,bucket=watch_port:3,actions=output:2",
    ),
    "watches both": (
        "group_id=1,type=ff,bucket=watch_port:1,watch_group:2,output:1",
        "group_id=1,type=ff,bucket=watch_port:1,watch_group:2,actions=output:1",
    ),
    "no buckets": ("group_id=1,type=all", "group_id=1,type=all"),
    "no actions": (
        "group_id=1,type=select,bucket=weight:0,actions=",
        "group_id=1,type=select,bucket=weight:0,actions=drop",
    ),
    "blanks": (
        "group_id=1 type=select bucket=weight:10 watch_port:2 actions=output:1 bucket=output:2,",
        "group_id=1,type=select,bucket=weight:10,watch_port:2,actions=output:1,bucket=actions=output:2",
    ),
    "equals": (
        "group_id=0xff,type=select,bucket=weight=10,watch_port=2,actions=output=1",
        "group_id=255,type=select,bucket=weight:10,watch_port:2,actions=output:1",
    ),
    "actions on both sides": (
        "group_id=1,type=all,bucket=output:1,actions=output:2",
        "group_id=1,type=all,bucket=actions=output:1,output:2",
    ),
    "actions that need no match": (
        "group_id=1,type=all,bucket=set_field:1.2.3.4->ip_src,dec_ttl,pop_vlan,group:2",
        "group_id=1,type=all,bucket=actions=set_field:1.2.3.4->ip_src,dec_ttl,pop_vlan,group:2",
    ),
    "a tag that may have to be pushed": (
        "group_id=1,type=all,bucket=mod_vlan_vid:5",
        "group_id=1,type=all,bucket=actions=push_vlan:0x8100,set_field:4101->vlan_vid",
    ),
}


@pytest.mark.parametrize(("text", "printed"), AGREED.values(), ids=AGREED.keys())
def test_print_of_parse(ovs_ofctl: OvsOfctl, text: str, printed: str) -> None:
    group = parse_group(text)
    assert print_group(group) == printed
    assert parse_group(printed) == group
    done = ovs_ofctl("-O", "OpenFlow13", "parse-group", text)
    assert re.findall(r"^ ADD (.*)$", done.stdout, re.MULTILINE) == [printed], done.stderr


def test_what_is_meant() -> None:
    text = "group_id=3,type=select,bucket=weight:10,watch_port:LOCAL,output:1,bucket=watch_port:any,watch_group:4,drop"
    assert parse_group(text) == GroupSpec(
        3, GroupType.SELECT, (Bucket((Output(1),), 10, 0xFFFFFFFE), Bucket((), watch_group=4))
    )


@given(groups())
def test_a_printed_group_reads_back_as_itself(group: GroupSpec) -> None:
    assert parse_group(print_group(group)) == group


REFUSED: dict[str, tuple[str, type[FlowError], str, str]] = {
    "no number": ("type=all", BadGroup, "invalid-group", "a group needs group_id=…"),
    "no type": ("group_id=1", BadGroup, "invalid-group", "a group needs type=…"),
    "unknown type": ("group_id=1,type=foo", BadGroup, "bad-type", "type=foo is no type of group: use all, select"),
    "number by name": ("group_id=all,type=all", BadGroup, "invalid-group", "group_id=all is no number"),
    "number too high": ("group_id=0xffffff01,type=all", BadGroup, "invalid-group", "0xffffff01"),
    "number twice": ("group_id=1,group_id=2,type=all", BadGroup, "invalid-group", "group_id is given twice"),
    "unknown word": ("group_id=1,type=all,buckets=1", BadGroup, "invalid-group", "did you mean bucket?"),
    "word of ovs": (
        "group_id=1,type=select,selection_method=hash",
        BadGroup,
        "invalid-group",
        "is a word of ovs-ofctl",
    ),
    "word of ovs in a bucket": (
        "group_id=1,type=all,bucket=bucket_id:3,1",
        BadGroup,
        "invalid-group",
        "bucket_id is a word",
    ),
    "two buckets of an indirect group": (
        "group_id=1,type=indirect,bucket=1,bucket=2",
        BadGroup,
        "invalid-group",
        "has 2 buckets",
    ),
    "empty bucket": ("group_id=1,type=all,bucket=", BadGroup, "bad-bucket", "a bucket needs actions"),
    "weight of a group without": ("group_id=1,type=all,bucket=weight:2,1", BadGroup, "weight-unsupported", "select"),
    "weight too high": ("group_id=1,type=select,bucket=weight:65536,1", BadGroup, "bad-bucket", "use 0–65535"),
    "weight twice": (
        "group_id=1,type=select,bucket=weight:1,weight:2,1",
        BadGroup,
        "bad-bucket",
        "weight is given twice",
    ),
    "watching nothing of the kind": (
        "group_id=1,type=ff,bucket=watch_port:qq,1",
        BadGroup,
        "bad-watch",
        "no port number",
    ),
    "watching for nothing": (
        "group_id=1,type=all,bucket=watch_port:1,1",
        BadGroup,
        "watch-unsupported",
        "watch nothing",
    ),
    "unknown action": ("group_id=1,type=all,bucket=outptu:1", BadAction, "bad-type", "did you mean output?"),
    "instruction": ("group_id=1,type=all,bucket=meter:1", BadAction, "bad-type", "meter is an instruction"),
    "action out of range": ("group_id=1,type=all,bucket=push_vlan:0x9100", BadAction, "bad-argument", "push_vlan"),
}


@pytest.mark.parametrize(("text", "error", "reason", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(text: str, error: type[FlowError], reason: str, message: str) -> None:
    with pytest.raises(error) as refused:
        parse_group(text)
    assert message in str(refused.value)
    assert refused.value.reason == reason
