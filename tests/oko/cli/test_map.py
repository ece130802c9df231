from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from ofext.extension import MapDelete, MapDumpReply, MapDumpRequest, MapKey
from ofext.multipart import ReplyBody, RequestBody
from oko.cli.client import Client
from oko.cli.map import _described as described
from oko.cli.map import _entries as entries_of
from oko.kernel.cpus import possible_cpus
from tests.oko.cli.conftest import load
from tests.oko.conftest import Compile
from tests.stage import BRIDGE, FIREWALL, Stage

pytestmark = pytest.mark.needs_bpf

BLOCKLIST = FIREWALL.with_name("blocklist.o")
ZERO = "{gateway: 0.0.0.0, port: 0, enabled: false, mac: 00:00:00:00:00:00, colour: RED, offset: [0, 0]}"


@pytest.fixture
def maps(switch: Stage, tmp_path: Path, counting: Compile) -> Stage:
    """The bridge with tests/oko/counting.c as program 1."""
    path = tmp_path / "counting.o"
    path.write_bytes(counting())
    return load(switch, path)


def dump(switch: Stage, name: str) -> str:
    return switch.output("oko", "map", "dump", BRIDGE, "1", name)


def contents(switch: Stage) -> list[object]:
    """What is in the maps that may be written, as bytes."""
    with Client.connect(BRIDGE, switch.rundir) as client:
        return [client.report(MapDumpRequest(1, 0, name)) for name in ("seen", "settings", ".rodata")]


def update(switch: Stage, name: str, key: str, value: str) -> None:
    assert switch.output("oko", "map", "update", BRIDGE, "1", name, key, value) == ""


def test_list(maps: Stage) -> None:
    lines = [line.split() for line in maps.output("oko", "map", "list", BRIDGE).splitlines()]
    assert lines[0] == ["PROGRAM", "MAP", "TYPE", "KEY", "VALUE", "MAX"]
    assert sorted(lines[1:]) == [
        ["1", ".rodata", "array", "4", "4", "1"],
        ["1", "packets", "percpu_array", "4", "4", "1"],
        ["1", "seen", "hash", "4", "8", "4"],
        ["1", "settings", "array", "4", "28", "1"],
    ]
    assert maps.output("oko", "map", "list", BRIDGE, "1").splitlines()[1:] != []
    found = {entry["name"]: entry for entry in json.loads(maps.output("oko", "map", "list", BRIDGE, "--json"))}
    assert found["seen"]["max_entries"] == 4
    assert found["settings"]["value"]["members"][0]["name"] == "gateway"
    assert "program 2 is not loaded" in maps.error("oko", "map", "list", BRIDGE, "2")


def test_struct(maps: Stage) -> None:
    assert dump(maps, "settings") == f"key: 0  value: {ZERO}\n"
    update(maps, "settings", "0", '{"gateway": "192.0.2.1", "colour": "GREEN", "mac": "02:00:00:00:00:01"}')
    # Members that are not named stay.
    update(maps, "settings", "0", '{"port": 443, "offset": [-1, 2]}')
    (entry,) = json.loads(maps.output("oko", "map", "dump", BRIDGE, "1", "settings", "--json"))
    assert entry == {
        "key": 0,
        "value": {
            "gateway": "192.0.2.1",
            "port": 443,
            "enabled": False,
            "mac": "02:00:00:00:00:01",
            "colour": "GREEN",
            "offset": [-1, 2],
        },
    }
    # What is dumped can be written.
    update(maps, "settings", "0", json.dumps(entry["value"]))
    assert json.loads(maps.output("oko", "map", "dump", BRIDGE, "1", "settings", "--json")) == [entry]


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        pytest.param("1", "2", "key: 1  value: 2", id="numbers"),
        pytest.param("0x10", "0xff", "key: 16  value: 255", id="hexadecimal numbers"),
        pytest.param('"01000000"', "2", "key: 1  value: 2", id="bytes of a key"),
    ],
)
def test_numbers(maps: Stage, key: str, value: str, shown: str) -> None:
    update(maps, "seen", key, value)
    assert dump(maps, "seen") == shown + "\n"


def test_per_cpu(maps: Stage) -> None:
    update(maps, "packets", "0", "7")
    values = [7] * possible_cpus()
    assert dump(maps, "packets") == f"key: 0  values: {values}\n"
    assert json.loads(maps.output("oko", "map", "dump", BRIDGE, "1", "packets", "--json")) == [
        {"key": 0, "values": values}
    ]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        pytest.param(("1", "data", "0", "0"), "program 1 has no map 'data'", id="kind of a section"),
        pytest.param(("1", "sean", "0", "0"), "program 1 has no map 'sean'; it has: ", id="map"),
        pytest.param(("2", "seen", "0", "0"), "program 2 is not loaded", id="program"),
        pytest.param(("1", "seen", "x", "0"), "'x' is not hexadecimal", id="key"),
        pytest.param(("1", "seen", "4294967296", "0"), "4294967296 does not fit in 4 bytes", id="large key"),
        pytest.param(("1", "seen", "0", "{}"), "{} is no int of 8 bytes", id="struct for number"),
        pytest.param(("1", "settings", "0", "{"), "'{' is not JSON", id="JSON"),
        pytest.param(("1", "settings", "0", '{"gate": 1}'), "no member 'gate': there are gateway", id="member"),
        pytest.param(("1", "settings", "0", '{"colour": "BLUE"}'), "'BLUE'", id="enum"),
        pytest.param(("1", "settings", "1", '{"port": 1}'), "beyond its 1 entries", id="beyond the array"),
        pytest.param(("1", ".rodata", "0", '{"answer": 0}'), "read-only data", id="read-only"),
    ],
)
def test_updates_that_are_refused(maps: Stage, words: tuple[str, ...], complaint: str) -> None:
    before = contents(maps)
    assert complaint in maps.error("oko", "map", "update", BRIDGE, *words)
    assert contents(maps) == before


def test_a_section_by_its_suffix(firewall: Stage) -> None:
    """Shown and taken by its short name; the whole name is good, too."""
    names = [line.split()[1] for line in firewall.output("oko", "map", "list", BRIDGE, "1").splitlines()[1:]]
    assert "config" in names
    assert not any(name.startswith(".") for name in names)
    found = json.loads(firewall.output("oko", "map", "list", BRIDGE, "--json"))
    assert names == [entry["name"] for entry in found]
    update(firewall, "config", "0", '{"config": {"openers": 6}}')
    for name in ("config", ".data.config"):
        (entry,) = json.loads(firewall.output("oko", "map", "dump", BRIDGE, "1", name, "--json"))
        assert entry["value"]["config"]["openers"] == 6
        assert entry["value"]["config"]["timeout"]["syn_sent"] == 120


def test_delete(maps: Stage) -> None:
    for key in ("1", "2"):
        update(maps, "seen", key, "5")
    assert maps.output("oko", "map", "delete", BRIDGE, "1", "seen", "0x1") == ""
    assert dump(maps, "seen") == "key: 2  value: 5\n"


def test_delete_of_several_keys(maps: Stage) -> None:
    for key in ("1", "2", "3"):
        update(maps, "seen", key, "5")
    assert maps.output("oko", "map", "delete", BRIDGE, "1", "seen", "1", "0x3") == ""
    assert dump(maps, "seen") == "key: 2  value: 5\n"
    update(maps, "seen", "1", "5")
    assert "has no key 07000000" in maps.error("oko", "map", "delete", BRIDGE, "1", "seen", "1", "7", "2")
    assert dump(maps, "seen") == "key: 2  value: 5\n"


def test_more_keys_than_a_message_holds(switch: Stage, tmp_path: Path) -> None:
    load(switch, BLOCKLIST)
    prefixes = [f"10.{number // 256}.{number % 256}.0/24" for number in range(3_000)]
    entries = tmp_path / "prefixes.csv"
    entries.write_text("\n".join(("key", *prefixes)))
    switch.output("oko", "map", "update", BRIDGE, "1", "prefixes", "--from-csv", entries)
    assert switch.output("oko", "map", "delete", BRIDGE, "1", "prefixes", *prefixes[1:]) == ""
    assert dump(switch, "prefixes") == f"key: {prefixes[0]}  value: {{packets: 0, bytes: 0}}\n"


class Vanishing(Client):
    """A client that deletes all entries of the map once it has got a page of it."""

    pages = 0

    def report(self, body: RequestBody) -> ReplyBody:
        reply = super().report(body)
        if isinstance(reply, MapDumpReply):
            self.pages += 1
            if reply.cursor:
                keys = tuple(MapKey(key) for key, _ in reply.entries)
                for batch in (keys[:1500], keys[1500:]):
                    self.command(MapDelete(reply.program, 0, reply.map, batch))
        return reply


def test_a_large_map_is_dumped_in_pages(switch: Stage, tmp_path: Path) -> None:
    load(switch, BLOCKLIST)
    written = sorted(f"10.{number // 256}.{number % 256}.0/24" for number in range(3_000))
    entries = tmp_path / "prefixes.csv"
    entries.write_text("\n".join(("key", *written)))
    switch.output("oko", "map", "update", BRIDGE, "1", "prefixes", "--from-csv", entries)
    dumped = json.loads(switch.output("oko", "map", "dump", BRIDGE, "1", "prefixes", "--json"))
    assert sorted(entry["key"] for entry in dumped) == written
    # A page whose last entries are gone cannot be followed: what is there then comes whole.
    with Vanishing.connect(BRIDGE, switch.rundir) as client:
        left = entries_of(client, described(client, 1, "prefixes"))
        assert client.pages == 2
    remaining = json.loads(switch.output("oko", "map", "dump", BRIDGE, "1", "prefixes", "--json"))
    assert 0 < len(left) == len(remaining) < 3_000


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        pytest.param(("1", "seen", "7"), "has no key 07000000", id="no such key"),
        pytest.param(("1", "seen", "x"), "'x' is not hexadecimal", id="key"),
        pytest.param(("1", "seen", "1", "x"), "'x' is not hexadecimal", id="one of several keys"),
        pytest.param(("1", "sean", "7"), "program 1 has no map 'sean'", id="map"),
        pytest.param(("1", "settings", "0"), "is an array, whose elements stay", id="array"),
        pytest.param(("2", "seen", "0"), "program 2 is not loaded", id="program"),
    ],
)
def test_deletes_that_are_refused(maps: Stage, words: tuple[str, ...], complaint: str) -> None:
    update(maps, "seen", "1", "5")
    before = contents(maps)
    assert complaint in maps.error("oko", "map", "delete", BRIDGE, *words)
    assert contents(maps) == before


FLOW = '{"addr": ["10.0.0.1", "10.0.0.2"], "port": [51000, 80], "protocol": "tcp"}'


def test_connections_of_the_firewall(firewall: Stage) -> None:
    value = '{"state": "ESTABLISHED", "packets": [12, 9], "opener": 0}'
    update(firewall, "connections", FLOW, value)
    assert dump(firewall, "connections") == "10.0.0.1:51000 → 10.0.0.2:80 tcp ESTABLISHED never ↑12 ↓9\n"
    seen = {"last_seen": time.clock_gettime_ns(time.CLOCK_MONOTONIC), "opener": 1}
    update(firewall, "connections", FLOW, json.dumps(seen))
    assert re.fullmatch(
        r"10\.0\.0\.2:80 → 10\.0\.0\.1:51000 tcp ESTABLISHED 00:00:\d\d ↑9 ↓12\n", dump(firewall, "connections")
    )
    (entry,) = json.loads(firewall.output("oko", "map", "dump", BRIDGE, "1", "connections", "--json"))
    assert entry["key"]["protocol"] == "tcp"
    assert isinstance(entry["value"]["last_seen"], int)
    assert entry["value"]["bytes"] == [0, 0]
    assert firewall.output("oko", "map", "delete", BRIDGE, "1", "connections", FLOW) == ""
    assert dump(firewall, "connections") == ""


def test_members_left_out_of_a_prefix(switch: Stage) -> None:
    """They are those of this prefix, not of one that covers it."""
    load(switch, BLOCKLIST)
    update(switch, "prefixes", "10.0.0.0/8", '{"packets": 1, "bytes": 2}')
    update(switch, "prefixes", "10.0.0.0/8", '{"packets": 3}')
    update(switch, "prefixes", "10.0.0.0/16", '{"packets": 4}')
    assert sorted(dump(switch, "prefixes").splitlines()) == [
        "key: 10.0.0.0/16  value: {packets: 4, bytes: 0}",
        "key: 10.0.0.0/8  value: {packets: 3, bytes: 2}",
    ]
