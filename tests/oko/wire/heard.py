"""What ovs-ofctl says to a switch: the flow_mods that it sends, as bytes."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

from ofext.messages import BarrierReply, BarrierRequest, FlowMod, Hello, decode, encode
from tests.patience import patience

_PATIENCE = patience(20)


def flow_mods(directory: Path, lines: list[str]) -> list[FlowMod]:
    """Those of ``ovs-ofctl add-flows`` for these flows, in OpenFlow 1.3. The files are made in `directory`."""
    heard: list[FlowMod] = []
    flows, path = directory / "flows", directory / "switch"
    flows.write_text("\n".join(lines) + "\n")
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(_PATIENCE)
        switch = Thread(target=lambda: heard.extend(_answer(listener)))
        switch.start()
        command = ("ovs-ofctl", "-O", "OpenFlow13", "--no-names", "add-flows", f"unix:{path}", str(flows))
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_PATIENCE)
        if done.returncode:
            with socket.socket(socket.AF_UNIX) as nobody:
                nobody.connect(str(path))
        switch.join()
    assert done.returncode == 0, done.stderr
    return heard


def _answer(listener: socket.socket) -> Iterator[FlowMod]:
    connection, _ = listener.accept()
    with connection, connection.makefile("rb") as stream:
        connection.sendall(encode(Hello()))
        while head := stream.read(8):
            message, xid = decode(head + stream.read(int.from_bytes(head[2:4]) - 8))
            if isinstance(message, BarrierRequest):
                connection.sendall(encode(BarrierReply(), xid))
            elif isinstance(message, FlowMod):
                yield message
