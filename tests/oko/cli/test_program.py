from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.bpf_programs.harness import build_test_object
from tests.oko.conftest import Compile
from tests.stage import BRIDGE, FIREWALL, Stage

pytestmark = pytest.mark.needs_bpf


def test_load_list_and_unload(switch: Stage) -> None:
    loaded = switch.output("oko-load", BRIDGE, "65535", FIREWALL)
    (program,) = json.loads(switch.output("oko", "program", "list", BRIDGE, "--json"))
    digest = hashlib.sha256(FIREWALL.read_bytes()).hexdigest()
    count = program.pop("instructions")
    assert loaded == f"program 65535 (firewall) loaded: {count} instructions, 6 maps\n"
    assert program == {"id": 65535, "name": "firewall", "maps": 6, "runs": 0, "matches": 0, "digest": digest}
    header, line = switch.output("oko", "program", "list", BRIDGE).splitlines()
    assert header.split() == ["ID", "NAME", "INSTRUCTIONS", "MAPS", "RUNS", "MATCHES", "DIGEST"]
    assert line.split() == ["65535", "firewall", str(count), "6", "0", "0", digest[:12]]
    assert switch.output("oko", "program", "unload", BRIDGE, "65535") == ""
    assert switch.output("oko", "program", "list", BRIDGE) == ""
    assert json.loads(switch.output("oko", "program", "list", BRIDGE, "--json")) == []


def test_verify_only(switch: Stage) -> None:
    answer = switch.output("oko-load", "--verify-only", BRIDGE, "1", FIREWALL)
    assert answer.startswith("program 1 (firewall) would be accepted: ")
    assert switch.output("oko", "program", "list", BRIDGE) == ""


def test_unload_in_use(firewall: Stage) -> None:
    firewall.output("oko", "flow", "add", BRIDGE, "filter_prog=1,actions=drop")
    assert "program 1 is named by 1 rules" in firewall.error("oko", "program", "unload", BRIDGE, "1")
    firewall.output("oko", "program", "unload", BRIDGE, "1", "--force")
    assert firewall.output("oko", "flow", "list", BRIDGE) == ""


def test_reload_and_fresh_maps(switch: Stage, tmp_path: Path, counting: Compile) -> None:
    path = tmp_path / "counting.o"
    path.write_bytes(counting())
    switch.output("oko-load", BRIDGE, "1", path)
    switch.output("oko", "map", "update", BRIDGE, "1", "seen", "1", "5")
    path.write_bytes(counting("-DENTRIES=8"))
    assert "ask for fresh maps" in switch.error("oko-load", BRIDGE, "1", path)
    assert switch.output("oko", "map", "dump", BRIDGE, "1", "seen") == "key: 1  value: 5\n"
    switch.output("oko-load", "--fresh-maps", BRIDGE, "1", path)
    assert switch.output("oko", "map", "dump", BRIDGE, "1", "seen") == ""


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("missing.o", "No such file or directory"), (".", "Is a directory")],
)
def test_file_that_cannot_be_read(switch: Stage, tmp_path: Path, name: str, complaint: str) -> None:
    path = tmp_path / name
    assert switch.error("oko-load", BRIDGE, "1", path) == f"{path}: {complaint}"


def test_details_of_a_rejection(switch: Stage, tmp_path: Path) -> None:
    """The kernel's log, or the list of faults, is there for who asks."""
    source = tmp_path / "bad.c"
    source.write_text(
        '#include <oko.h>\nSEC("filter")\nint bad(struct xdp_md *ctx)\n{\n'
        "\treturn *(__u8 *)(long)ctx->data;\n}\n"
        'char LICENSE[] SEC("license") = "GPL";\n'
    )
    path = build_test_object(source, tmp_path)
    complaint = switch.error("oko-load", BRIDGE, "1", path)
    assert complaint.startswith(f"{path}: ")
    verbose = switch.run("oko-load", "--verbose", BRIDGE, "1", path)
    assert verbose.returncode == 1
    first, *details = verbose.stderr.splitlines()
    assert first == f"oko-load: {complaint}"
    assert details
