"""OpenFlow 1.0.1, and of Nicira's extensions to it what `ovs-ofctl` uses: what differs from OpenFlow 1.3.

    constants  the numbers of OpenFlow 1.0 that differ
    errors     how the errors of OpenFlow 1.3 are said
    match      the match of fixed size, and Nicira's extensible one
    actions    actions, Nicira's too
    stats      the bodies of statistics requests and replies
    messages   all messages: `encode`, `decode`

What is alike in both versions is declared once, for OpenFlow 1.3: hello, echo, configuration, barriers.
"""
