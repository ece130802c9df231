"""The controller of a conformance run: Ryu's switch tester, as os-ken carries it, on 127.0.0.1:6653.

    python ryu_tester.py DIRECTORY VERSION [--ask]

runs the test files of a directory against the switch with datapath id 1, by way of the switch with datapath id 2, and
prints the tester's log on stderr. It speaks VERSION with both, `openflow10` or `openflow13`. With --ask it writes a
line on stdout, which is for nothing else, each time that all rules of the switch under test have been deleted, and goes
on when it has read one on stdin. A program of its own: the tester needs eventlet's threads in the whole process.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import Any, TextIO

_SETTLED = 0.3
"""Seconds between the last rule and the packet. The tester sends it at once, and Open vSwitch's caches follow a rule
only after a while."""
_BETWEEN = 1
"""Seconds between two tests. Open vSwitch counts a packet in its table some time after it has decided it, and the next
test would find it among its own."""


def main(directory: str, version: str, *, ask: bool = False) -> None:
    asking, sys.stdout = sys.stdout, io.StringIO()  # the tester writes there how far it is
    os.environ["OSKEN_HUB_TYPE"] = "eventlet"
    hub: Any = importlib.import_module("os_ken.lib.hub")
    hub.patch()
    manager: Any = importlib.import_module("os_ken.base.app_manager").AppManager
    importlib.import_module("os_ken.flags")
    log: Any = importlib.import_module("os_ken.log")
    app: Any = importlib.import_module("os_ken.tests.switch.tester").OfTester
    send = app._one_time_packet_send

    def send_settled(self: Any, packet: Any) -> None:
        hub.sleep(_SETTLED)
        send(self, packet)

    app._one_time_packet_send = send_settled
    if ask:
        _ask_when_empty(app, importlib.import_module(app.__module__).STATE_INIT_FLOW, asking)
    options = {
        "ofp-listen-host": "127.0.0.1",
        "ofp-tcp-listen-port": "6653",
        "test-switch-dir": directory,
        "test-switch-interval": _BETWEEN,
        "test-switch-target-version": version,
        "test-switch-tester-version": version,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    importlib.import_module("os_ken.cfg").CONF(args=words, project="os_ken")
    log.init_log()
    manager.run_apps([app.__module__])


def _ask_when_empty(app: Any, emptying: int, asking: TextIO) -> None:
    test = app._test

    def test_and_ask(self: Any, state: int, *arguments: Any) -> Any:
        outcome = test(self, state, *arguments)
        if state == emptying:
            print(file=asking, flush=True)
            input()
        return outcome

    app._test = test_and_ask


if __name__ == "__main__":
    main(*sys.argv[1:3], ask="--ask" in sys.argv)
