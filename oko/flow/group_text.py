"""Groups as text, both ways, as ovs-ofctl's add-group reads and dump-groups prints them.

group_id=1,type=select,bucket=weight:10,watch_port:2,actions=output:1,bucket=output:2
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from oko.errors import BadGroup
from oko.flow.action import RESERVED_PORTS
from oko.flow.action_text import read_actions, write_actions
from oko.flow.consistency import Known
from oko.flow.group import Bucket, GroupSpec, GroupType
from oko.flow.match import Match
from oko.flow.validity import check_group
from oko.flow.words import (
    SEPARATORS,
    advice,
    names,
    read_number,
    read_port,
    read_word,
    read_words,
    split_words,
    write_port,
)

_TYPES: Final = {
    "all": GroupType.ALL,
    "select": GroupType.SELECT,
    "indirect": GroupType.INDIRECT,
    "ff": GroupType.FAST_FAILOVER,
    "fast_failover": GroupType.FAST_FAILOVER,
}
_TYPE_WORDS: Final = {type_: word for word, type_ in reversed(_TYPES.items())}

_KEYS: Final = ("group_id", "type", "bucket")
_OPTIONS: Final = ("weight", "watch_port", "watch_group")
_NOTHING: Final = RESERVED_PORTS["ANY"]
"""The port that a bucket watches which watches none."""

_BUCKET: Final = re.compile(rf"(?:^|[{SEPARATORS}])bucket[=:]")
_UNSUPPORTED: Final = names("selection_method selection_method_param fields command_bucket_id bucket_id")
"""Words of OpenFlow 1.5 and of Open vSwitch's extensions."""


def parse_group(text: str) -> GroupSpec:
    """The group that `text` describes. Raises BadGroup, and BadAction for the actions of a bucket."""
    head, *buckets = _BUCKET.split(text)
    number: int | None = None
    type_: GroupType | None = None
    for key, value in read_words(head, BadGroup):
        match key:
            case "group_id" if number is None:
                number = read_number(key, value or "", 32, BadGroup, "invalid-group")
            case "type" if type_ is None:
                type_ = _read_type(value or "")
            case "group_id" | "type":
                raise BadGroup(f"{key} is given twice: give it once", reason="invalid-group")
            case _:
                raise _unknown(key)
    if number is None or type_ is None:
        missing = "group_id" if number is None else "type"
        raise BadGroup(f"a group needs {missing}=…", reason="invalid-group")
    spec = GroupSpec(number, type_, tuple(_read_bucket(type_, bucket) for bucket in buckets))
    check_group(spec)
    return spec


def print_group(spec: GroupSpec) -> str:
    """The group as ovs-ofctl prints it. `parse_group` reads it back as an equal group, if weights other than 1 are a
    select group's."""
    head = f"group_id={spec.number},type={_TYPE_WORDS[spec.type]}"
    return head + "".join(f",bucket={','.join(_write_bucket(spec.type, bucket))}" for bucket in spec.buckets)


def _read_type(text: str) -> GroupType:
    if text not in _TYPES:
        raise BadGroup(f"type={text} is no type of group: use {', '.join(_TYPES)}", reason="bad-type")
    return _TYPES[text]


def _read_bucket(type_: GroupType, text: str) -> Bucket:
    """What is no option of the bucket is an action, whether behind ``actions=`` or not."""
    options: dict[str, str] = {}
    actions: list[str] = []
    for word in split_words(text):
        key, value = read_word(word, BadGroup)
        if key in _OPTIONS:
            if key in options:
                raise BadGroup(f"{key} is given twice in a bucket: give it once", reason="bad-bucket")
            options[key] = value or ""
        elif key in ("actions", "action"):
            actions.append(value or "")
        elif key in _UNSUPPORTED:
            raise _unknown(key)
        else:
            actions.append(word)
    if not actions:
        raise BadGroup("a bucket needs actions=…, or actions=drop", reason="bad-bucket")
    if "weight" in options and type_ is not GroupType.SELECT:
        raise BadGroup("only the buckets of a select group have a weight", reason="weight-unsupported")
    port = read_port(options["watch_port"], BadGroup, "bad-watch") if "watch_port" in options else _NOTHING
    group = options.get("watch_group")
    return Bucket(
        read_actions(",".join(actions), Known(Match())),
        weight=read_number("weight", options.get("weight", "1"), 16, BadGroup, "bad-bucket"),
        watch_port=None if port == _NOTHING else port,
        watch_group=None if group is None else read_number("watch_group", group, 32, BadGroup, "bad-watch"),
    )


def _write_bucket(type_: GroupType, bucket: Bucket) -> Iterator[str]:
    if type_ is GroupType.SELECT and bucket.weight != 1:
        yield f"weight:{bucket.weight}"
    if bucket.watch_port is not None:
        yield f"watch_port:{write_port(bucket.watch_port)}"
    if bucket.watch_group is not None:
        yield f"watch_group:{bucket.watch_group}"
    yield f"actions={write_actions(bucket.actions)}"


def _unknown(key: str) -> BadGroup:
    if key in _UNSUPPORTED:
        return BadGroup(f"{key} is a word of ovs-ofctl that this switch does not support", reason="invalid-group")
    hint = advice(key, _KEYS, f"use {', '.join(_KEYS)}")
    return BadGroup(f"unknown word {key!r} of a group: {hint}", reason="invalid-group")
