"""The codecs of OpenFlow 1.3 and 1.0, and the extension that carries filter programs.

    errors        the error types and codes of OpenFlow, and those of the extension
    codec         how a structure is declared, one line per field, and read and written
    constants     the numbers of OpenFlow that senders and receivers must agree on
    oxm           match fields as raw TLVs
    instructions  instructions and actions
    buckets       the buckets of groups
    bands         the bands of meters
    queues        the queues of ports
    properties    what a table can do, property by property
    multipart     the bodies of multipart requests and replies
    experimenter  what experimenters define, behind their id
    extension     programs, maps and observers: experimenter 0xff4f4b4f
    bundles       messages that take effect together: experimenter 0x4f4e4600
    monitor       a switch that tells of changes to its flows: experimenter 0x4f4e4600
    load          a program cut into chunks, and put together again
    messages      all messages: `encode`, `decode`
    answers       exceptions made into error messages, and back
    framing       a byte stream cut into messages
    v10           OpenFlow 1.0, as far as it differs: what ovs-ofctl speaks by default
    osken         field and messages of the extension for applications of os-ken; nothing else here needs it
    wireshark     a dissector for the extension

Everything here is bytes ↔ values; what a message means is decided elsewhere.
"""
