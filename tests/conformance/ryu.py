"""Ryu's switch tester against okod, against Open vSwitch, or against Open vSwitch with okod attached.

    python -m tests.conformance.ryu {okod,ovs,attached} [--openflow {1.0,1.3}] [--filter] [--lanes N]
                                    [--only PATTERN]... [--report FILE]

The tester and its tests of OpenFlow 1.0 and 1.3 come with os-ken. It drives two switches that three cables connect: the
one under test, with datapath id 1, and an Open vSwitch with datapath id 2 that sends and receives packets. Each lane
has both of them, and the tester, in a network namespace of its own, and runs its share of the test files. Needs root,
Open vSwitch, ethtool and bpffs.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import json
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Final

from oko.cli.client import Client
from oko.flow.text import parse_flow_mod
from oko.switch.rundir import RunDirectory
from oko.wire.change import write_flow_mod
from tests.oko.kernel.waiting import wait_until
from tests.ovs import Vswitch

VERSIONS: Final = {"1.0": "10", "1.3": "13"}
"""The versions of OpenFlow that the tester and okod both speak, and how os-ken writes them."""
_PORTS: Final = (1, 2, 3)
_CONTROLLER: Final = "tcp:127.0.0.1:6653"
_BPFFS: Final = Path("/sys/fs/bpf")
_TESTER: Final = Path(__file__).with_name("ryu_tester.py")
_OBJECT: Final = Path(__file__).parents[2] / "build" / "bpf" / "blocklist.o"
"""A filter program that says no to every packet, as long as its list is empty."""
_FILTER_RULE: Final = "filter_prog=1,priority=0,actions=drop"
"""Below all plain rules: each of them has to be put in order with it, and it decides no packet."""
_RESULT: Final = re.compile(r" {4}(\S.*?)\s+(OK|ERROR)")


@dataclass(frozen=True, slots=True, order=True)
class Result:
    """What became of one test: `reason` is empty where it passed."""

    file: str
    test: str
    passed: bool
    reason: str = ""


def suite(version: str) -> Path:
    """The directory of the test files for a version of OpenFlow, one of VERSIONS."""
    found = importlib.util.find_spec("os_ken.tests.switch")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / f"of{VERSIONS[version]}"


def results(log: str) -> list[Result]:
    """What the tester's log says."""
    told: list[Result] = []
    file = ""
    for line in log.partition("--- Test start ---")[2].partition("---  Test end  ---")[0].splitlines():
        if result := _RESULT.fullmatch(line):
            told.append(Result(file, result[1], result[2] == "OK"))
        elif line.startswith(" " * 8) and told and not told[-1].passed:
            told[-1] = Result(file, told[-1].test, False, line.strip())
        elif line[:1].strip() and not line.startswith(("dpid=", "waiting for")):
            file = line
    return told


def run(switch: str, version: str, paths: Sequence[str], directory: Path, *, filters: bool = False) -> list[Result]:
    """Runs the test files of these paths below the suite against a switch in a namespace of its own; logs stay in
    `directory`. With `filters` there is a filter rule during each test."""
    directory.mkdir()
    tests = directory / "tests"
    tests.mkdir()
    for number, path in enumerate(paths):
        # The tester keeps one file of each title, and in the suite for OpenFlow 1.0 two titles are there twice.
        parts = json.loads((suite(version) / path).read_text())
        titled = [path if isinstance(part, str) else part for part in parts]
        (tests / f"{number:03}.json").write_text(json.dumps(titled))
    with _namespace() as namespace, ExitStack() as switches:
        prefix = ("nsenter", f"--net=/run/netns/{namespace}", "--")
        ovs = switches.enter_context(Vswitch(directory / "ovs", prefix=prefix))
        _add_bridge(ovs, "tester", "t", 2)
        if switch != "okod":
            _add_bridge(ovs, "target", "s", 1)
        if switch != "ovs":
            options = ["--attach", "target", "--ovsdb", ovs.remote] if switch == "attached" else _standalone()
            okod = switches.enter_context(_okod(prefix, options, directory, _BPFFS / namespace))
        command: list[str | Path] = [*prefix, sys.executable, _TESTER, tests, f"openflow{VERSIONS[version]}"]
        if filters:
            subprocess.run([_tool("oko-load"), "--rundir", okod, "target", "1", _OBJECT], check=True)
            command.append("--ask")
        with (directory / "tester.log").open("w+") as log:
            with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=log, cwd=directory, text=True) as tester:
                assert tester.stdin is not None
                assert tester.stdout is not None
                try:
                    for _ in tester.stdout:
                        _add_filter_rule(okod)
                        print(file=tester.stdin, flush=True)
                except BaseException:
                    tester.kill()
                    raise
            log.seek(0)
            return results(log.read())


@contextmanager
def _namespace() -> Iterator[str]:
    """A network namespace with three cables, from s1, s2, s3 to t1, t2, t3."""
    name = f"conformance-{secrets.token_hex(3)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for number in _PORTS:
            ends = f"s{number}", f"t{number}"
            _ip(name, "link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
            for end in ends:
                # Only the tester's packets, as they are: no router solicitations, no checksums left to hardware.
                _ip(name, "link", "set", end, "addrgenmode", "none", "up")
                _inside(name, "ethtool", "-K", end, "tx", "off", "rx", "off")
        _ip(name, "link", "set", "lo", "up")
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def _ip(namespace: str, *words: str) -> None:
    subprocess.run(["ip", "-n", namespace, *words], check=True)


def _inside(namespace: str, *words: str) -> None:
    subprocess.run(["nsenter", f"--net=/run/netns/{namespace}", *words], check=True, stdout=subprocess.DEVNULL)


def _add_bridge(ovs: Vswitch, name: str, letter: str, datapath_id: int) -> None:
    ovs.vsctl("add-br", name, "--", "set", "bridge", name, "datapath_type=netdev", "protocols=OpenFlow10,OpenFlow13")
    identity = f"other-config:datapath-id={datapath_id:016x}"
    ovs.vsctl("set", "bridge", name, "fail_mode=secure", identity, "other-config:disable-in-band=true")
    for number in _PORTS:
        end = f"{letter}{number}"
        ovs.vsctl("add-port", name, end, "--", "set", "interface", end, f"ofport_request={number}")
    ovs.vsctl("set-controller", name, _CONTROLLER, "--", "set", "controller", name, "max_backoff=1000")


def _standalone() -> list[str]:
    ports = [word for number in _PORTS for word in ("--port", f"s{number}={number}")]
    return ["--standalone", "target", *ports, "--dpid", "1", "--controller", _CONTROLLER]


@contextmanager
def _okod(prefix: Sequence[str], options: Sequence[str], directory: Path, bpffs: Path) -> Iterator[Path]:
    """Yields its run directory."""
    bpffs.mkdir()
    rundir, statedir = directory / "run", directory / "state"
    places: list[str | Path] = ["--rundir", rundir, "--bpffs", bpffs, "--statedir", statedir]
    with (directory / "okod.log").open("w") as log:
        okod = subprocess.Popen([*prefix, _tool("okod"), *places, *options], stdout=log, stderr=log)
        try:
            wait_until((rundir / "target.mgmt").exists, seconds=60)
            yield rundir
        finally:
            okod.terminate()
            okod.wait(10)
            if options[0] == "--attach":
                subprocess.run([*prefix, _tool("okod"), *places, "--detach", "target"], check=True)
            else:
                subprocess.run([_tool("oko"), "--rundir", rundir, "bridge", "del", "target"], check=True)
            bpffs.rmdir()


def _add_filter_rule(rundir: Path) -> None:
    with Client.connect("target", RunDirectory(rundir)) as client:
        client.command(write_flow_mod(parse_flow_mod(_FILTER_RULE)))


def _tool(name: str) -> Path:
    return Path(sys.executable).with_name(name)


def main() -> None:
    reading = argparse.ArgumentParser(description="Ryu's switch tester against a switch.")
    reading.add_argument("switch", choices=("okod", "ovs", "attached"))
    reading.add_argument("--openflow", choices=VERSIONS, default="1.3", help="which of the suites [1.3]")
    reading.add_argument("--filter", action="store_true", help="attached: with a filter rule below all others")
    reading.add_argument("--lanes", type=int, default=4, help="how many namespaces run tests at a time [4]")
    reading.add_argument("--only", metavar="PATTERN", action="append", help="test files, such as 'match/*'")
    reading.add_argument("--report", metavar="FILE", type=Path, help="write the results there, as JSON")
    options = reading.parse_args()
    if options.filter and options.switch != "attached":
        reading.error("--filter is for attached")
    tests = suite(options.openflow)
    paths = [
        path
        for path in sorted(str(file.relative_to(tests)) for file in tests.rglob("*.json"))
        if any(fnmatch.fnmatch(path, pattern) for pattern in options.only or ["*"])
    ]
    directory = Path(tempfile.mkdtemp(prefix="conformance-"))
    shares = [share for lane in range(options.lanes) if (share := paths[lane :: options.lanes])]
    with ThreadPoolExecutor(options.lanes) as lanes:
        running = [
            lanes.submit(run, options.switch, options.openflow, share, directory / str(lane), filters=options.filter)
            for lane, share in enumerate(shares)
        ]
    told = sorted(result for lane in running for result in lane.result())
    for result in told:
        if not result.passed:
            print(f"{result.file}: {result.test}: {result.reason}")
    if options.report is not None:
        options.report.write_text(json.dumps([asdict(result) for result in told], indent=1))
    print(f"{options.switch}: {sum(result.passed for result in told)} of {len(told)} passed; logs in {directory}")


if __name__ == "__main__":
    main()
