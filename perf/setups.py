"""`Setup`: what stands between p1 and p2 in a benchmark of whole switches, each with one class here."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import struct
import subprocess
import tempfile
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
from oko.kernel.maps import Map
from oko.kernel.program import LoadedProgram, load_program
from perf.networks import Network
from perf.scenarios import PORTS, PROGRAM_ID, SAMPLES, Scenario, settings
from perf.switches import Entry, oko
from perf.testbed import Testbed
from perf.track import delete_links, make_pairs
from perf.traffic import SERVICES
from perf.xdp import INDEX_0, OBJECTS, XdpObject
from tests.ovs import SCHEMA, TOOLS, Vswitch

_BRIDGE: Final = "br0"
_KERNEL_BRIDGE: Final = "kernel0"
_VISITED: Final = (("f1", "q1"), ("f2", "q2"))
"""Veth pairs between Open vSwitch (ports 3 and 4) and a process that packets visit."""

_XSKMAP: Final = 17  # BPF_MAP_TYPE_XSKMAP of <linux/bpf.h>
_XDP_DROP: Final = 1
_REDIRECT_MAP: Final = 51  # BPF_FUNC_redirect_map
_PATIENCE: Final = 20  # seconds
_TESTPMD: Final = "dpdk-testpmd"
_FORWARD_ONLY: Final = "only compared in plain forwarding"
_BRIDGE_FILTERS: Final = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_LOOSE: Final = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_loose")
_KVM: Final = Path("/dev/kvm")


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
    """Oko attached to Open vSwitch."""

    name = "attached"
    letter = "b"
    text = "Oko, attached to Open vSwitch"
    inline = True

    def missing(self, scenario: Scenario) -> str | None:
        return "okod does not attach to Open vSwitch yet"

    def run(self, scenario: Scenario, testbed: Testbed, entries: Iterable[Entry]) -> AbstractContextManager[None]:
        raise OkoError(f"{self.text}: {self.missing(scenario)}")


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
        return _no_open_vswitch()

    @contextlib.contextmanager
    def run(self, scenario: Scenario, testbed: Testbed, entries: Iterable[Entry]) -> Iterator[None]:
        if self._kind == "system":
            _receive(PORTS)
        with _open_vswitch(PORTS, self._kind, scenario.plain_rules()):
            yield


class Process:
    """Open vSwitch and a process with the filter program, which packets visit between two rules, as in the paper."""

    name = "process"
    letter = "e"
    text = "Open vSwitch, AF_XDP ports, and the filter in a process of its own"
    inline = False

    def missing(self, scenario: Scenario) -> str | None:
        if scenario.by_hand not in ("forward", scenario.program):
            return "no filter program in this scenario"
        return _no_open_vswitch()

    @contextlib.contextmanager
    def run(self, scenario: Scenario, testbed: Testbed, entries: Iterable[Entry]) -> Iterator[None]:
        with ExitStack() as own:
            make_pairs(_VISITED)
            own.callback(delete_links, [near for near, _ in _VISITED])
            rules = [
                *map(_visiting, scenario.plain_rules()),
                "in_port=4,actions=output:2",
                "in_port=3,actions=output:1",
            ]
            own.enter_context(_open_vswitch((*PORTS, *(near for near, _ in _VISITED)), "afxdp", rules))
            far = [far for _, far in _VISITED]
            own.enter_context(_visited(f"{scenario.program or 'forward'}_process", entries, far))
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
        with _visited("forward_process", (), PORTS):
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
        processor = _other_processors()[0]
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
    """Open vSwitch and the filter in a virtual machine with vhost-user ports, as in the paper."""

    name = "vm"
    letter = "g"
    text = "Open vSwitch, and the filter in a virtual machine"
    inline = False

    def missing(self, scenario: Scenario) -> str | None:
        if not _KVM.exists():
            return "no hardware virtualisation here (/dev/kvm)"
        return "not scripted yet: it needs vhost-user ports, which Open vSwitch has with DPDK only"

    def run(self, scenario: Scenario, testbed: Testbed, entries: Iterable[Entry]) -> AbstractContextManager[None]:
        raise OkoError(f"{self.text}: {self.missing(scenario)}")


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
    VirtualMachine(),
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


def _no_open_vswitch() -> str | None:
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"{absent[0]} is not installed" if absent else None if SCHEMA.exists() else f"{SCHEMA} is not there"


@contextlib.contextmanager
def _open_vswitch(ports: Sequence[str], kind: str, rules: Sequence[str]) -> Iterator[None]:
    """A bridge with these ports, numbered from 1, and rules. Its thread has a processor that does not send, if there
    is one."""
    with tempfile.TemporaryDirectory() as directory, Vswitch(Path(directory) / "ovs") as switch:
        words = ["add-br", _BRIDGE, "--", "set", "bridge", _BRIDGE, "datapath_type=netdev", "fail-mode=secure"]
        for number, port in enumerate(ports, 1):
            words += ["--", "add-port", _BRIDGE, port, "--", "set", "interface", port, f"type={kind}"]
            words.append(f"ofport_request={number}")
            if kind == "afxdp":
                words.append("options:n_rxq=1")
        processors = sum(1 << processor for processor in _other_processors())
        switch.vsctl("set", "Open_vSwitch", ".", f"other_config:pmd-cpu-mask={processors:#x}")
        switch.vsctl(*words)
        listed = Path(directory) / "rules"
        listed.write_text("\n".join((*rules, "")))
        switch.ofctl("add-flows", _BRIDGE, str(listed))
        faults = switch.vsctl("--columns=name,error", "--format=csv", "--no-headings", "list", "interface")
        for line in faults.splitlines():
            if re.search(r'"?[^\[\]",]{3,}"?$', line.partition(",")[2]):
                raise OkoError(f"Open vSwitch: {line}")
        yield
        # What it has made of interfaces outlives its processes.
        switch.vsctl("del-br", _BRIDGE)


def _other_processors() -> list[int]:
    """Those that this process, which sends, is not bound to; all if it is bound to none."""
    everything = set(range(os.cpu_count() or 1))
    return sorted(everything - os.sched_getaffinity(0)) or sorted(everything)


def _visiting(rule: str) -> str:
    """The rule with the way to the process in place of that to the other port."""
    return rule.replace("output:2", "output:3").replace("output:1", "output:4")


@contextlib.contextmanager
def _visited(name: str, entries: Iterable[Entry], names: Sequence[str]) -> Iterator[None]:
    """The process, at these two interfaces."""
    ends = [interface(end).index for end in names]
    with ExitStack() as own:
        sockets = [own.enter_context(Map.create("sockets", _XSKMAP, 4, 4, 1)) for _ in ends]
        for index, found in zip(ends, sockets, strict=True):
            own.enter_context(attach_xdp(own.enter_context(_to_socket(found)), index))
        fds = [found.fd for found in sockets]
        process = subprocess.Popen(
            [OBJECTS / name, *map(str, (*ends, *fds))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=fds,
            text=True,
        )
        own.callback(_end, process)
        os.sched_setaffinity(process.pid, _other_processors())
        assert process.stdin is not None  # both are pipes
        assert process.stdout is not None
        for table, key, value in entries:
            process.stdin.write(f"{table} {key.hex()} {value.hex()}\n")
        process.stdin.write("\n")
        process.stdin.flush()
        readable, _, _ = select.select([process.stdout], [], [], _PATIENCE)
        if not readable or process.stdout.readline() != "ready\n":
            raise OkoError(f"{name} did not begin: see its message above")
        yield


def _to_socket(sockets: Map) -> LoadedProgram:
    """Hands every frame to the AF_XDP socket of queue 0, which a veth as made here has only: r1 = map, r2 = 0,
    r3 = XDP_DROP, call bpf_redirect_map, exit. By hand, because `verifier.elf` knows no XSKMAP."""
    slots = [(0x18, 1, 0), (0, 0, 0), (0xB7, 2, 0), (0xB7, 3, _XDP_DROP), (0x85, 0, _REDIRECT_MAP), (0x95, 0, 0)]
    code = b"".join(struct.pack("<BBhi", operation, register, 0, value) for operation, register, value in slots)
    return load_program("to_socket", code, "GPL", references={0: (sockets, None)})


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


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
