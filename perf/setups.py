"""`Setup`: what stands between p1 and p2 in a benchmark of whole switches, each with one class here."""

from __future__ import annotations

import contextlib
import shutil
import struct
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Protocol

from pyroute2 import IPRoute

from oko.errors import OkoError
from oko.kernel.ethtool import set_offloads
from oko.kernel.interface import interface, set_up
from oko.kernel.link import attach_xdp
from perf.attachment import attached
from perf.guest import KVM, Accelerator, visited_in_guest
from perf.networks import Network
from perf.open_vswitch import BRIDGE, no_open_vswitch, on_others, open_vswitch, other_processors
from perf.scenarios import PORTS, PROGRAM_ID, SAMPLES, Scenario, settings
from perf.switches import Entry, oko
from perf.testbed import Testbed
from perf.track import delete_links, make_pairs
from perf.traffic import SERVICES
from perf.visited import visited
from perf.xdp import INDEX_0, OBJECTS, XdpObject

_KERNEL_BRIDGE: Final = "kernel0"
_VISITED: Final = (("f1", "q1"), ("f2", "q2"))
"""Veth pairs between Open vSwitch (ports 3 and 4) and a process that packets visit."""
_TAPS: Final = ("f1", "f2")
"""The same ports where the process is in a virtual machine."""

_PATIENCE: Final = 20  # seconds
_TESTPMD: Final = "dpdk-testpmd"
_FORWARD_ONLY: Final = "only compared in plain forwarding"
_BRIDGE_FILTERS: Final = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_LOOSE: Final = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_loose")
_NO_PROGRAM: Final = "no filter program in this scenario"


class Setup(Protocol):
    """`name` is what the command line calls it, `letter` what the report does. `inline` says that all its work is done
    by the processor that sends, so that ns per packet mean something."""

    name: str
    letter: str
    text: str
    inline: bool

    def missing(self, scenario: Scenario) -> str | None:
        """Why it cannot do this here, None if it can."""

    def run(self, scenario: Scenario, testbed: Testbed, entries: Iterable[Entry]) -> AbstractContextManager[None]:
        """It does while the context lasts. `entries` are written into the maps of the scenario's program. Raises
        OkoError."""


class Drop:
    """No switch: the sink itself at p1 and p2."""

    name = "drop"
    letter = "–"
    text = "XDP drop at the port: the generator"
    inline = True

    def missing(self, scenario: Scenario) -> str | None:
        return None

    def run(self, scenario: Scenario, testbed: Testbed, entries: Iterable[Entry]) -> AbstractContextManager[None]:
        return testbed.sinks(*PORTS)


class Oko:
    """Oko standalone, its bridge in this process."""

    name = "oko"
    letter = "a"
    text = "Oko, standalone"
    inline = True

    def missing(self, scenario: Scenario) -> str | None:
        return None

    @contextlib.contextmanager
    def run(self, scenario: Scenario, testbed: Testbed, entries: Iterable[Entry]) -> Iterator[None]:
        with oko() as switch:
            if scenario.program is not None:
                switch.load(PROGRAM_ID, scenario.program, SAMPLES)
                switch.put(PROGRAM_ID, entries)
            switch.add(*scenario.rules())
            yield


class Attached:
    """okod attached to Open vSwitch: filter rules are decided in XDP, and without a program all rules are plain ones,
    which are Open vSwitch's."""

    name = "attached"
    letter = "b"
    text = "Oko attached to Open vSwitch, AF_PACKET ports"
    inline = False

    def missing(self, scenario: Scenario) -> str | None:
        return no_open_vswitch()

    @contextlib.contextmanager
    def run(self, scenario: Scenario, testbed: Testbed, entries: Iterable[Entry]) -> Iterator[None]:
        rules = scenario.rules()
        filtered = [rule for rule in rules if "filter_prog=" in rule]
        plain = [rule for rule in rules if "filter_prog=" not in rule]
        program = SAMPLES / f"{scenario.program}.o" if scenario.program is not None else None
        with (
            open_vswitch(PORTS, "system", plain) as switch,
            attached(switch, BRIDGE, len(PORTS), filtered, program=program, entries=entries, prefix=on_others()),
        ):
            yield


class ByHand:
    """The XDP program of ``perf/baselines`` that does this one job."""

    name = "by-hand"
    letter = "c"
    text = "an XDP program written by hand for the one job"
    inline = True

    def missing(self, scenario: Scenario) -> str | None:
        return None if scenario.by_hand is not None else "not written for this scenario"

    @contextlib.contextmanager
    def run(self, scenario: Scenario, testbed: Testbed, entries: Iterable[Entry]) -> Iterator[None]:
        with ExitStack() as own:
            loaded = own.enter_context(XdpObject(f"{scenario.by_hand}_by_hand"))
            ports = [interface(name).index for name in PORTS]
            for place, index in enumerate(ports):
                loaded.aim(index, at=place)
            if ".data.first" in loaded.maps:
                loaded.maps[".data.first"].update(INDEX_0, struct.pack("<II", ports[0], 1))
            for name, key, value in entries:
                loaded.maps[name].update(key, value)
            if scenario.networks is not None:
                keyed = _prefix_key if scenario.by_hand == "prefixes" else _address_key
                places = enumerate(scenario.networks())
                loaded.maps["rules"].update_batch((keyed(each), struct.pack("<II", 1, place)) for place, each in places)
            for index in ports:
                own.enter_context(attach_xdp(loaded.program, index))
            yield


class OpenVswitch:
    """Open vSwitch with its userspace datapath, and no filter."""

    letter = "d"
    inline = False

    def __init__(self, kind: str) -> None:
        """`kind` is that of its ports: afxdp, or system for packet sockets (AF_PACKET)."""
        self.name = {"afxdp": "ovs-afxdp", "system": "ovs-afpacket"}[kind]
        self.text = f"Open vSwitch alone, {'AF_XDP' if kind == 'afxdp' else 'AF_PACKET'} ports, no filter"
        self._kind = kind

    def missing(self, scenario: Scenario) -> str | None:
        return no_open_vswitch()

    @contextlib.contextmanager
    def run(self, scenario: Scenario, testbed: Testbed, entries: Iterable[Entry]) -> Iterator[None]:
        if self._kind == "system":
            _receive(PORTS)
        with open_vswitch(PORTS, self._kind, scenario.plain_rules()):
            yield


class Process:
    """Open vSwitch and a process with the filter program, which packets visit between two rules, as in the paper."""

    name = "process"
    letter = "e"
    text = "Open vSwitch, AF_XDP ports, and the filter in a process of its own"
    inline = False

    def missing(self, scenario: Scenario) -> str | None:
        if scenario.by_hand != "forward" and scenario.program is None:
            return _NO_PROGRAM
        return no_open_vswitch()

    @contextlib.contextmanager
    def run(self, scenario: Scenario, testbed: Testbed, entries: Iterable[Entry]) -> Iterator[None]:
        with ExitStack() as own:
            make_pairs(_VISITED)
            own.callback(delete_links, [near for near, _ in _VISITED])
            near, far = zip(*_VISITED, strict=True)
            switch = own.enter_context(open_vswitch((*PORTS, *near), "afxdp", _visiting(scenario)))
            to_switch, to_process = divided(other_processors())
            mask = sum(1 << processor for processor in to_switch)
            switch.vsctl("set", "Open_vSwitch", ".", f"other_config:pmd-cpu-mask={mask:#x}")
            own.enter_context(visited(OBJECTS / _process(scenario), _lines(entries), far, to_process))
            yield


class ProcessAlone:
    """The process of `Process` between the two ports, without a switch: to be compared with `Testpmd`."""

    name = "process-alone"
    letter = "e1"
    text = "the process of (e) between the two ports, without a switch"
    inline = False

    def missing(self, scenario: Scenario) -> str | None:
        return None if scenario.by_hand == "forward" else _FORWARD_ONLY

    @contextlib.contextmanager
    def run(self, scenario: Scenario, testbed: Testbed, entries: Iterable[Entry]) -> Iterator[None]:
        with visited(OBJECTS / _process(scenario), _lines(entries), PORTS, other_processors()):
            yield


class Testpmd:
    """DPDK's own forwarder over AF_XDP: what a process of the kind of `Process` can do."""

    __test__ = False  # no test for pytest to collect

    name = "testpmd"
    letter = "e2"
    text = "DPDK's testpmd, AF_XDP ports, without a switch: how fast a process like that of (e) should be"
    inline = False

    def missing(self, scenario: Scenario) -> str | None:
        if scenario.by_hand != "forward":
            return _FORWARD_ONLY
        absent = f"{_TESTPMD} is not installed: it is in the package dpdk-dev, its AF_XDP ports in librte-net-af-xdp23"
        return None if shutil.which(_TESTPMD) is not None else absent

    @contextlib.contextmanager
    def run(self, scenario: Scenario, testbed: Testbed, entries: Iterable[Entry]) -> Iterator[None]:
        processor = other_processors()[0]
        # Its first thread only waits for the end. Into a pipe it would not say that it has begun until it ends.
        command = [
            "stdbuf",
            "-oL",
            _TESTPMD,
            "--no-huge",
            "-m",
            "256",
            "--no-pci",
            f"--lcores=0@{processor},1@{processor}",
        ]
        command += ["-d", "librte_net_af_xdp.so.23"]
        for number, name in enumerate(PORTS):
            command.append(f"--vdev=net_af_xdp{number},iface={name}")
        command += ["--", "--forward-mode=io", "--total-num-mbufs=16384"]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None  # it is a pipe
        try:
            said = []
            for line in process.stdout:
                said.append(line)
                if line.startswith("Press enter"):
                    break
            else:
                raise OkoError(f"{_TESTPMD} did not begin: {''.join(said[-5:]).strip()}")
            yield
        finally:
            process.communicate("\n", timeout=_PATIENCE)


class Kernel:
    """A bridge of Linux, and nftables behind br_netfilter: conntrack, fingerprints (osf), a limit for each source."""

    name = "kernel"
    letter = "f"
    text = "Linux bridge with nftables"
    inline = True

    def missing(self, scenario: Scenario) -> str | None:
        if shutil.which("nft") is None:
            return "nft is not installed"
        if scenario.program is not None and not _BRIDGE_FILTERS.exists():
            return "the kernel has no br_netfilter"
        if scenario.program == "p0f" and shutil.which("nfnl_osf") is None:
            return "nfnl_osf, which loads fingerprints, is not installed: it is in the package iptables"
        if scenario.by_hand is None:
            return "not written for this scenario"
        return None

    @contextlib.contextmanager
    def run(self, scenario: Scenario, testbed: Testbed, entries: Iterable[Entry]) -> Iterator[None]:
        with ExitStack() as own:
            _receive(PORTS)
            with IPRoute() as route:
                route.link("add", ifname=_KERNEL_BRIDGE, kind="bridge", br_mcast_snooping=0)
                own.callback(delete_links, [_KERNEL_BRIDGE])
                bridge = interface(_KERNEL_BRIDGE).index
                for name in PORTS:
                    route.link("set", index=interface(name).index, master=bridge)
            set_up(bridge)
            filtered = scenario.program is not None or scenario.networks is not None
            _BRIDGE_FILTERS.write_text("1" if filtered else "0")
            if scenario.program == "firewall":
                # Else a segment in the middle of a conversation begins a connection.
                _LOOSE.write_text("0")
            if scenario.program == "p0f":
                _checked(["nfnl_osf", "-f", "/usr/share/xtables/pf.os"])
            if filtered:
                own.callback(_checked, ["nft", "delete", "table", "inet", "perf"])
                _checked(["nft", "-f", "-"], _nftables(scenario))
            yield


class VirtualMachine:
    """Open vSwitch and the process of `Process` in a virtual machine, with a tap for each of its two network cards."""

    letter = "g"
    text = "Open vSwitch, AF_XDP ports, and the filter in a virtual machine, virtio-net cards on taps"
    inline = False

    def __init__(self, name: str, accelerator: Accelerator) -> None:
        self.name = name
        self._accelerator = accelerator

    def missing(self, scenario: Scenario) -> str | None:
        if scenario.by_hand != "forward" and scenario.program is None:
            return _NO_PROGRAM
        return self._accelerator.missing() or no_open_vswitch()

    @contextlib.contextmanager
    def run(self, scenario: Scenario, testbed: Testbed, entries: Iterable[Entry]) -> Iterator[None]:
        with (
            visited_in_guest(self._accelerator, _process(scenario), _lines(entries), _TAPS),
            open_vswitch((*PORTS, *_TAPS), "afxdp", _visiting(scenario)),
        ):
            yield


SETUPS: Final[Sequence[Setup]] = (
    Oko(),
    Attached(),
    ByHand(),
    OpenVswitch("afxdp"),
    OpenVswitch("system"),
    Process(),
    ProcessAlone(),
    Testpmd(),
    Kernel(),
    VirtualMachine("vm", KVM),
)


def started(setup: Setup, scenario: Scenario, testbed: Testbed) -> AbstractContextManager[None]:
    """The setup with the scenario's program as `settings` says."""
    return setup.run(scenario, testbed, settings(scenario.program) if scenario.program is not None else ())


# ---- what they are made of


def _address_key(network: Network) -> bytes:
    """As ``addresses_by_hand.c`` has it."""
    return network.first.to_bytes(4, "big")


def _prefix_key(network: Network) -> bytes:
    """As ``prefixes_by_hand.c`` has it: struct bpf_lpm_trie_key of <linux/bpf.h>."""
    return struct.pack("<I", network.length) + _address_key(network)


def _receive(names: Iterable[str]) -> None:
    """Let a veth whose frames go to the stack take frames that are redirected to it: only with GRO on does it poll."""
    for name in names:
        set_offloads(name, {"rx-gro": True})


def _checked(command: Sequence[str], text: str = "") -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OkoError(f"{' '.join(command)}: {done.stderr.strip()}")


def divided(processors: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Those for Open vSwitch, and those for the process that packets visit: as in the paper it has one of its own, if
    there is more than one."""
    return (processors[:-1], processors[-1:]) if len(processors) > 1 else (processors, processors)


def _visiting(scenario: Scenario) -> list[str]:
    """The scenario's rules with the way to the process in place of that to the other port, and the ways back."""
    there = (rule.replace("output:2", "output:3").replace("output:1", "output:4") for rule in scenario.plain_rules())
    return [*there, "in_port=4,actions=output:2", "in_port=3,actions=output:1"]


def _process(scenario: Scenario) -> str:
    """The name of the process of ``perf/baselines/native`` with the scenario's program."""
    return f"{scenario.program or 'forward'}_process"


def _lines(entries: Iterable[Entry]) -> str:
    """As ``process.c`` reads them."""
    return "".join((*(f"{table} {key.hex()} {value.hex()}\n" for table, key, value in entries), "\n"))


def _nftables(scenario: Scenario) -> str:
    """The scenario for nftables. The packets of a bridge come by the hook `forward` of IPv4."""
    services = ", ".join(map(str, SERVICES))
    lines = {
        None: ["ip daddr @networks counter accept"],
        "firewall": [
            f"tcp dport {{ {services} }} ct state new,established counter accept",
            f"tcp sport {{ {services} }} ct state established counter accept",
        ],
        "p0f": [
            'tcp flags & (syn | ack) == syn osf name "Windows" counter drop',
            f"tcp dport {{ {services} }} counter accept",
            f"tcp sport {{ {services} }} counter accept",
        ],
        "token_bucket": [
            "add @sources { ip saddr limit rate over 1000000000/second burst 1000000 packets } counter drop",
            f"tcp dport {{ {services} }} counter accept",
            f"tcp sport {{ {services} }} counter accept",
        ],
    }[scenario.program]
    return "\n".join(
        (
            "table inet perf {",
            "set sources { type ipv4_addr; flags dynamic; size 131072; }",
            *_nftables_set(scenario),
            "chain forward {",
            "type filter hook forward priority 0; policy drop;",
            *lines,
            "}",
            "}",
            "",
        )
    )


def _nftables_set(scenario: Scenario) -> list[str]:
    """The scenario's networks. Of those that lie in others nftables keeps the outer ones: all are accepted."""
    if scenario.networks is None:
        return []
    networks = scenario.networks()
    prefixed = any(network.length < 32 for network in networks)
    flags = "flags interval; auto-merge;" if prefixed else ""
    elements = ", ".join(map(str, networks) if prefixed else (str(IPv4Address(network.first)) for network in networks))
    return [f"set networks {{ type ipv4_addr; {flags} elements = {{ {elements} }}; }}"]
