"""The OpenFlow 1.3 codec and the extension that carries filter programs.

    errors        the error types and codes of OpenFlow, and those of the extension
    codec         how a structure is declared, one line per field, and read and written
    constants     the numbers of OpenFlow that senders and receivers must agree on
    oxm           match fields as raw TLVs
    instructions  instructions and actions
    multipart     the bodies of multipart requests and replies
    extension     programs and maps: experimenter 0xff4f4b4f
    load          a program cut into chunks, and put together again
    messages      all messages: `encode`, `decode`
    answers       exceptions made into error messages, and back
    framing       a byte stream cut into messages

Everything here is bytes ↔ values; what a message means is decided elsewhere.
"""
