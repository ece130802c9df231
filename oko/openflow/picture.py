"""The image of a bridge, told to whoever asks over OpenFlow."""

from __future__ import annotations

from ofext.extension import ImageFormat, ImageLine, ImageReply, ImageRequest
from oko.compiler.annotation import annotate, draw
from oko.switch.bridge import Bridge
from oko.wire.refusal import refused


def picture(bridge: Bridge, request: ImageRequest) -> ImageReply:
    """The image that decides packets now. Raises ProtocolError for a format that is none."""
    match request.format:
        case ImageFormat.TEXT:
            text = annotate(bridge.image, bridge.tables) if bridge.image is not None else ""
        case ImageFormat.DOT:
            text = draw(bridge.tables, bridge.layout, attached=bridge.attachment is not None)
        case _:
            raise refused("bad-request/bad-packet", f"an image has no format {request.format}: 0 is text, 1 is dot")
    return ImageReply(tuple(map(ImageLine, text.splitlines())))
