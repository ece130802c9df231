from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from oko.attached.record import Record
from oko.errors import AttachError, StateDamaged


@dataclass(frozen=True, slots=True)
class Moved:
    path: str
    times: int


@dataclass(frozen=True, slots=True)
class Painted:
    colour: bytes

    def to_json(self) -> dict[str, Any]:
        return {"colour": self.colour.hex()}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        return cls(bytes.fromhex(saved["colour"]))


KINDS = (Moved, Painted)


def test_what_was_added_is_there_for_whoever_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "br0.attached"
    record = Record(path, KINDS)
    assert (len(record), list(record), path.exists()) == (0, [], False)
    changes = [Moved("a", 1), Painted(b"\xff"), Moved("b", 2)]
    for change in changes:
        record.add(change)
        assert list(Record(path, KINDS)) == list(record)
    record.add(changes[0])
    assert list(Record(path, KINDS)) == changes
    record.remove(changes[1])
    record.remove(Moved("c", 3))
    assert list(Record(path, KINDS)) == list(record) == [changes[0], changes[2]]
    for change in record:
        record.remove(change)
    assert list(path.parent.iterdir()) == []


DAMAGED = {
    "nothing": b"",
    "cut off": b'{"version": 1, "chan',
    "another version": json.dumps({"version": 2, "changes": []}).encode(),
    "no list": json.dumps({"version": 1, "changes": None}).encode(),
    "an unknown kind": json.dumps({"version": 1, "changes": [{"kind": "Sold"}]}).encode(),
    "a field that is missing": json.dumps({"version": 1, "changes": [{"kind": "Moved", "path": "a"}]}).encode(),
    "a value that cannot be read": json.dumps({"version": 1, "changes": [{"kind": "Painted", "colour": 1}]}).encode(),
    "other JSON": b"[]",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_record_is_not_taken_for_another(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "br0.attached"
    path.write_bytes(content)
    with pytest.raises(StateDamaged, match=r"br0\.attached"):
        Record(path, KINDS)
    assert path.read_bytes() == content


def test_what_cannot_be_written_down_is_not_in_the_record(tmp_path: Path) -> None:
    path = tmp_path / "br0.attached"
    record = Record(path, KINDS)
    record.add(Moved("a", 1))
    draft = path.with_name("br0.attached.new")
    draft.mkdir()
    with pytest.raises(AttachError, match="cannot be written"):
        record.add(Moved("b", 2))
    assert list(record) == list(Record(path, KINDS)) == [Moved("a", 1)]
