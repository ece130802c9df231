"""The controller of a conformance run: Ryu's switch tester, as os-ken carries it, on 127.0.0.1:6653.

    python ryu_tester.py DIRECTORY [MESSAGE]

runs the test files of a directory against the switch with datapath id 1, by way of the switch with datapath id 2, and
prints the tester's log on stderr. The switch under test gets the message in the file MESSAGE each time that all of its
rules have been deleted. A program of its own: the tester needs eventlet's threads in the whole process.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

_SETTLED = 0.3
"""Seconds between the last rule and the packet. The tester sends it at once, and Open vSwitch's caches follow a rule
only after a while."""


def main(directory: str, message: bytes = b"") -> None:
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
    if message:
        _send_when_empty(importlib.import_module(app.__module__).OpenFlowSw, message)
    listen = ["--ofp-listen-host", "127.0.0.1", "--ofp-tcp-listen-port", "6653"]
    importlib.import_module("os_ken.cfg").CONF(args=["--test-switch-dir", directory, *listen], project="os_ken")
    log.init_log()
    manager.run_apps([app.__module__])


def _send_when_empty(switch: Any, message: bytes) -> None:
    delete = switch.del_flows

    def delete_and_send(self: Any, *cookie: int) -> Any:
        xid = delete(self, *cookie)
        if self.dp.id == 1 and not any(cookie):
            self.dp.send(message)
        return xid

    switch.del_flows = delete_and_send


if __name__ == "__main__":
    main(sys.argv[1], *(Path(file).read_bytes() for file in sys.argv[2:]))
