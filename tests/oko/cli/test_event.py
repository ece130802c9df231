from __future__ import annotations

import json
import re
import select
import subprocess
from pathlib import Path

import pytest

from demo.lab import SWITCH
from tests.e2e.conftest import Network, lab, network  # noqa: F401
from tests.oko.cli.conftest import load
from tests.oko.reporting import reporting
from tests.stage import BRIDGE, TOOLS, Stage

pytestmark = pytest.mark.needs_bpf

LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{6}  packets  \{port: 1, verdict: PASSED, number: (\d+)\}")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "reporting.o"
    path.write_bytes(reporting())
    return path


def test_events_as_they_come(network: Network, program: Path) -> None:  # noqa: F811
    network.start("--port", "p1=1", "--port", "p2=2")
    network.output("oko-load", BRIDGE, "1", program)
    network.output(
        "oko", "flow", "add", BRIDGE, "in_port=1,filter_prog=1,actions=output:2", "in_port=2,actions=output:1"
    )
    network.listen("server", "10.0.0.2")
    listening = network.lab.popen(
        SWITCH,
        [TOOLS / "oko", "event", "--rundir", network.rundir.path, BRIDGE, "1", "--count", "2"],
    )
    # What is reported before somebody listens waits in the ring buffer.
    assert network.connects("client", "10.0.0.2")
    assert listening.wait(20) == 0
    assert listening.stdout is not None
    lines = listening.stdout.read().splitlines()
    assert [int(found[1]) for line in lines if (found := LINE.fullmatch(line))] == [0, 1]
    network.lab.stop(listening)
    assert network.connects("client", "10.0.0.2")
    (line,) = network.output("oko", "event", BRIDGE, "1", "packets", "--count", "1", "--json").splitlines()
    event = json.loads(line)
    assert (event["program"], event["map"], event["lost"]) == (1, "packets", 0)
    assert event["record"]["verdict"] == "PASSED"
    assert network.error("oko", "event", BRIDGE, "1", "hash").startswith("program 1 has no ring buffer 'hash'")


def test_unloading_ends_it(switch: Stage, program: Path) -> None:
    load(switch, program)
    environment = {"OKO_RUNDIR": str(switch.rundir.path)}
    with subprocess.Popen(
        [TOOLS / "oko", "event", BRIDGE, "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    ) as listening:
        assert listening.stderr is not None
        while not select.select([listening.stderr], [], [], 0)[0]:
            load(switch, program)
            switch.output("oko", "program", "unload", BRIDGE, "1")
        assert listening.wait(20) == 1
        said = listening.stderr.read()
        # The program may have been away when the tool came.
        assert "was unloaded" in said or "is not loaded" in said
