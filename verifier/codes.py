"""The codes of a rejection, each with its meaning. They are stable: tools and documentation refer to them."""

from __future__ import annotations

from typing import Final

STRUCTURE: Final[dict[str, str]] = {
    "unknown-opcode": "an instruction that no version of the instruction set up to v4 has, or that filters may not use",
    "reserved-field": "a field that the instruction does not use is not zero",
    "bad-register": "a register beyond r10",
    "frame-pointer-write": "r10, the frame pointer, is written",
    "bad-immediate": "a constant shift beyond the width, a division by the constant zero, a swap of an unknown width",
    "bad-wide-load": "a 64-bit load that lacks its second half, is jumped into, or names a map by number",
    "bad-jump": "a jump out of its function",
    "falls-off-end": "a function whose last instruction is neither an exit nor an unconditional jump",
    "unreachable": "instructions that nothing leads to",
    "bad-call": "a call of something that is not a function of this program or of the switch",
    "forbidden-helper": "a helper function of the kernel that filter programs may not call",
    "cycle": "a jump back to an instruction that led to it: the program might not end",
    "recursion": "a function that calls itself, directly or through others",
}
"""What is found by looking at instructions and jumps alone."""

_TOOL: Final = "no compiler makes this: look at the tool or the assembly that did"

MENDS: Final[dict[str, str]] = {
    "unknown-opcode": f"compile with -mcpu=v3; if that does not help, {_TOOL}",
    "reserved-field": _TOOL,
    "bad-register": _TOOL,
    "frame-pointer-write": "copy r10 to another register and change the copy",
    "bad-immediate": "in C, look for a shift by the width of the type or more, or a division by zero",
    "bad-wide-load": _TOOL,
    "bad-jump": _TOOL,
    "falls-off-end": "let every way end in a return; the compiler leaves it out behind __builtin_unreachable()",
    "unreachable": "delete them; in C, compile with -O2",
    "bad-call": "call functions of this file, oko_in_port(), or helpers of <bpf/bpf_helpers.h>",
    "forbidden-helper": "do without it",
    "cycle": "unroll the loop: give it a constant number of turns and write #pragma unroll before it",
    "recursion": "write it as an unrolled loop with a constant number of turns",
}
"""How each of these is mended, where nothing more special is known."""

INSTEAD: Final[dict[str, str]] = {
    "bpf_tail_call": "call a function of the program instead",
    "bpf_redirect": "return OKO_MATCH, and let the rule's actions say where the packet goes",
    "bpf_redirect_map": "return OKO_MATCH, and let the rule's actions say where the packet goes",
    "bpf_clone_redirect": "return OKO_MATCH, and let the rule's actions say where the packet goes",
    "bpf_xdp_adjust_head": "a filter leaves packets as they are: let the rule's actions change them",
    "bpf_xdp_adjust_tail": "a filter leaves packets as they are: let the rule's actions change them",
    "bpf_xdp_adjust_meta": "a filter leaves packets as they are: keep what you need in a map",
    "bpf_xdp_store_bytes": "a filter leaves packets as they are: let the rule's actions change them",
    "bpf_trace_printk": "report through a ring buffer with bpf_ringbuf_output",
    "bpf_trace_vprintk": "report through a ring buffer with bpf_ringbuf_output",
    "bpf_perf_event_output": "report through a ring buffer with bpf_ringbuf_output",
    "bpf_loop": "unroll the loop: #pragma unroll and a constant number of turns",
    "bpf_for_each_map_elem": "look elements up one by one, or let a program outside walk over the map",
    "bpf_probe_read_kernel": "read the packet or a map's value directly",
    "bpf_probe_read": "read the packet or a map's value directly",
    "bpf_fib_lookup": "keep the addresses you need in a map, for example an LPM trie",
    "bpf_ktime_get_tai_ns": "use bpf_ktime_get_ns",
    "bpf_jiffies64": "use bpf_ktime_get_ns",
    "bpf_ringbuf_query": "count what you send in a map",
    "bpf_skb_load_bytes": "read from ctx->data, or use bpf_xdp_load_bytes",
    "bpf_map_push_elem": "use an array map with an index of your own",
    "bpf_map_pop_elem": "use an array map with an index of your own",
    "bpf_map_peek_elem": "use an array map with an index of your own",
    "bpf_map_lookup_percpu_elem": "look up this CPU's value with bpf_map_lookup_elem",
    "bpf_timer_init": "compare bpf_ktime_get_ns with a time that you keep in a map",
}
"""What to do instead of calling a helper that is forbidden."""

VALUES: Final[dict[str, str]] = {
    "uninitialised": "a register or stack byte is read that was never written, or was lost in a call",
    "not-a-pointer": "a number is used as a pointer",
    "maybe-null": "a pointer is used that was not compared with null",
    "packet-bounds": "bytes of the packet are read that no check on the way has proved to be there",
    "packet-write": "the packet is written",
    "context-access": "a part of struct xdp_md is read that filter programs may not read",
    "context-write": "struct xdp_md is written",
    "map-bounds": "bytes before or behind a map's value are touched",
    "read-only-data": "a constant of the program is written",
    "stack-bounds": "bytes outside of the stack are touched, or the stack is too small for the calls",
    "unaligned": "an access that must be aligned to its size is not",
    "pointer-arithmetic": "arithmetic that this kind of pointer does not allow",
    "pointer-comparison": "pointers are compared that have no known order",
    "pointer-leak": "a pointer, or a part of one, is stored where others can read it",
    "bad-argument": "a helper is called with something that it does not take",
    "bad-record": "bytes before or behind a ring-buffer record are touched",
    "record-leak": "a ring-buffer record is neither submitted nor discarded",
    "lock": "a spin lock is taken twice, not released, or something is called while it is held",
    "return-value": "the program does not return a number",
    "call-depth": "too many functions call each other",
    "too-complex": "too many states have to be looked at",
}
"""What is found by following registers and memory."""

CODES: Final[dict[str, str]] = {**STRUCTURE, **VALUES}
