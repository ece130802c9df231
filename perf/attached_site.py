"""`AttachedSite`: a private Open vSwitch with four hosts, okod attached to its bridge, and all who change rules."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from demo.lab import SWITCH, Host, Lab
from ofext.bundles import BundleAdd, BundleCommand, BundleControl, BundleFlag
from ofext.constants import TABLE_ALL
from ofext.extension import FilterRulesShow
from ofext.instructions import Action, ApplyActions, Instruction, Output
from ofext.messages import FlowMod, GroupMod, Message, encode
from ofext.multipart import FlowStatsReply, FlowStatsRequest
from oko.cli.client import Client
from oko.cli.flow import rule_of
from oko.errors import OkoError, RemoteError
from oko.flow import rule
from oko.flow.action import RESERVED_PORTS
from oko.flow.text import parse_selection, print_rule
from oko.wire.change import write_flow_mod, write_group_mod
from perf.attached_changes import AttachedUpdate, Mod, as_text
from perf.attached_frames import PORTS, PROGRAMS, fence
from perf.attached_judge import Arrival
from perf.xdp import OBJECTS
from tests.oko.attached.tap import Tap
from tests.ovs import Vswitch
from tests.stage import BRIDGE, Stage, mounted

_HOSTS: Final = tuple(
    Host(f"host{number}", f"p{number}", f"10.9.0.{number}/24", f"02:00:00:00:ff:0{number}") for number in PORTS
)
_FLOOD, _NORMAL = RESERVED_PORTS["FLOOD"], RESERVED_PORTS["NORMAL"]
_FLAGS: Final = BundleFlag.ATOMIC | BundleFlag.ORDERED
_FENCES: Final = 2
"""Frames of one batch may be sent in any order: what was in one with the first has left before the second."""
_NO_RULE: Final = write_flow_mod(parse_selection("table=0,priority=1,filter_prog=1", strict=True))
"""Deletes a filter rule that is not there."""


_LAST_WORDS: Final = 20
"""Lines of okod's log that an error shows."""


class Peer(Client):
    """A connection that changes rules."""

    def change(self, update: AttachedUpdate) -> list[RemoteError | None]:
        """For each of the changes what it was refused for. They are in effect when it returns."""
        messages = [_message(mod) for mod in update.mods]
        if not update.together:
            return self.send_all(messages)
        error = self._together(messages)
        self.send_all([])
        return [error] * len(messages)

    def _together(self, messages: Sequence[Message]) -> RemoteError | None:
        xid = next(self._xids)
        requests: list[Message] = [BundleControl(1, BundleCommand.OPEN_REQUEST, _FLAGS)]
        requests += [BundleAdd(1, _FLAGS, encode(message, xid)) for message in messages]
        requests.append(BundleControl(1, BundleCommand.COMMIT_REQUEST, _FLAGS))
        self._transmit(b"".join(encode(request, xid) for request in requests))
        try:
            for answer in self._answers(xid):
                if isinstance(answer, BundleControl) and answer.type == BundleCommand.COMMIT_REPLY:
                    break
        except RemoteError as error:
            return error
        return None


def _message(mod: Mod) -> FlowMod | GroupMod:
    if not isinstance(mod, rule.FlowMod):
        return write_group_mod(mod)
    message = write_flow_mod(mod)
    return replace(message, instructions=_sent_to(message.instructions, _FLOOD, _NORMAL))


def _sent_to(instructions: Sequence[Instruction], old: int, new: int) -> tuple[Instruction, ...]:
    """The instructions, with outputs to another port."""

    def changed(action: Action) -> Action:
        return replace(action, port=new) if isinstance(action, Output) and action.port == old else action

    return tuple(
        ApplyActions(tuple(map(changed, each.actions))) if isinstance(each, ApplyActions) else each
        for each in instructions
    )


class AttachedSite:
    """Where rules are changed, and frames sent and received."""

    def __init__(self, stage: Stage, vswitch: Vswitch, taps: dict[int, Tap], *, listen: bool) -> None:
        self._stage = stage
        self._vswitch = vswitch
        self._fences = 0
        self.taps = taps
        self.log: list[str] = []
        """What okod has written."""
        management = vswitch.management(BRIDGE)
        mode = "listen" if listen else "proxy"
        self._process = stage.start(f"--ovsdb={vswitch.remote}", f"--mode={mode}", role="--attach")
        stderr = self._process.process.stderr
        assert stderr is not None
        self._reader = threading.Thread(target=lambda: self.log.extend(stderr), daemon=True)
        self._reader.start()
        self._past = management if listen else management.with_name(f"{BRIDGE}.mgmt.ovs")
        for number, (name, _) in PROGRAMS.items():
            stage.output("oko-load", BRIDGE, str(number), OBJECTS / f"{name}.o")
        self.okod = self._peer(stage.rundir.socket(BRIDGE))
        self.okod.command(FilterRulesShow())
        self.relay = self.okod if listen else self._peer(management)
        self._relayed = stage.rundir.socket(BRIDGE) if listen else management

    def _peer(self, path: Path) -> Peer:
        return Peer.connect(f"unix:{path}", self._stage.rundir)

    def close(self) -> None:
        """Detach okod."""
        for peer in {self.okod, self.relay}:
            peer.close()
        self._process.end(signal.SIGTERM)
        self._reader.join()
        self._stage.output("okod", "--detach", BRIDGE)

    # ---- rules

    def ofctl(self, update: AttachedUpdate, *, past: bool) -> list[str | None]:
        """Let ovs-ofctl make the changes, of which none is about filter rules; for each what it was refused for."""
        return [self._ofctl(mod, self._past if past else self._relayed) for mod in update.mods]

    def _ofctl(self, mod: Mod, path: Path) -> str | None:
        assert isinstance(mod, rule.FlowMod)
        command, flow = as_text(mod)
        words = ["ovs-ofctl", "-O", "OpenFlow13", *command, f"unix:{path}", flow]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return done.stderr.strip() if done.returncode else None

    def settle(self) -> None:
        """Return when Open vSwitch decides no packets by older rules any more.

        All flows of its datapath go. To wait until they are revalidated (``revalidator/wait``) is not enough: where two
        of them overlap, the userspace datapath of Open vSwitch 3.1.0 may change the wrong one, and the other stays
        until no packet has met it for 10 s."""
        self._vswitch.appctl("revalidator/purge")

    def catch_up(self) -> None:
        """Return when okod has done what it has to about changes past it."""
        # Each takes its turn behind what okod has heard of by then.
        for _ in range(3):
            self.okod.command(_NO_RULE)

    def rules(self) -> set[str]:
        """What the bridge has, but for Oko's own, as `print_rule` writes it."""
        reply = self.okod.report(FlowStatsRequest(TABLE_ALL))
        assert isinstance(reply, FlowStatsReply)
        return {
            print_rule(rule_of(replace(entry, instructions=_sent_to(entry.instructions, _NORMAL, _FLOOD))))
            for entry in reply.entries
        }

    # ---- frames

    def send(self, port: int, frame: bytes) -> None:
        self.taps[port].send(frame)

    def collect(self) -> list[Arrival]:
        """What has arrived of all that was sent until now. Raises OkoError when the fences do not arrive."""
        found: list[Arrival] = []
        for port in PORTS:
            for _ in range(_FENCES):
                self._fences += 1
                frame = fence(self._fences)
                self.send(port, frame)
                for other, tap in self.taps.items():
                    try:
                        found += ((other, arrived) for arrived in tap.until(frame))
                    except TimeoutError:
                        raise OkoError(
                            f"the fence {self._fences} from port {port} does not arrive at port {other}"
                        ) from None
        return found


@contextlib.contextmanager
def attached_site(*, listen: bool) -> Iterator[AttachedSite]:
    """To be entered in namespaces of one's own (`perf.isolation`). `listen` is okod's mode."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory()))
        lab = stack.enter_context(Lab(_HOSTS))
        prefix = ("nsenter", f"--net=/run/netns/{lab.namespace(SWITCH)}", "--")
        vswitch = stack.enter_context(Vswitch(directory / "ovs", prefix=prefix))
        vswitch.add_bridge(BRIDGE, [host.port for host in _HOSTS], "netdev")
        stage = stack.enter_context(mounted(Stage(directory, prefix)))
        taps = {
            number: Tap(Path("/run/netns") / lab.namespace(host.name))
            for number, host in zip(PORTS, _HOSTS, strict=True)
        }
        for tap in taps.values():
            stack.callback(tap.close)
        site = AttachedSite(stage, vswitch, taps, listen=listen)
        stack.callback(site.close)
        try:
            yield site
        except OkoError as error:
            raise OkoError(f"{error}: the end of okod's log:\n{''.join(site.log[-_LAST_WORDS:])}") from error
