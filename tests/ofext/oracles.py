"""Software nobody here wrote: os-ken builds and reads messages, ovs-ofctl prints them."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
from os_ken.ofproto import ofproto_protocol
from os_ken.ofproto.ofproto_parser import msg as osken_parse

from ofext.messages import Message, encode, header

OSKEN = ofproto_protocol.ProtocolDesc(version=4)

needs_ovs_ofctl = pytest.mark.skipif(shutil.which("ovs-ofctl") is None, reason="ovs-ofctl is not installed")


def osken_built(message: Any, xid: int = 5) -> bytes:
    """The bytes that os-ken makes of its own message."""
    message.set_xid(xid)
    message.serialize()
    return bytes(message.buf)


def osken_read(data: bytes) -> Any:
    """The message of os-ken that the bytes are."""
    version, kind, length, xid = header(data)
    return osken_parse(OSKEN, version, kind, length, xid, data)


def printed(message: Message) -> str:
    """What ovs-ofctl prints for a message. Bytes that it cannot read make it print three stars."""
    done = subprocess.run(
        ["ovs-ofctl", "-m", "ofp-print", "-"],
        input=encode(message, 5).hex() + "\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert "***" not in done.stdout, done.stdout
    return done.stdout
