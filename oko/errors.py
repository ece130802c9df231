"""Every error that Oko raises on purpose, in one tree.

    OkoError
    ├── ProgramError      a filter program that is not accepted
    │   ├── NotCompiled   the source of a filter program that the compiler does not take
    │   ├── NotReadable   the bytes are not an object file that holds a filter program
    │   ├── Rejected      a program that breaks a rule of the filter model (has a stable `code`)
    │   ├── UnknownProgram  no program with this id is loaded
    │   └── ProgramInUse  a rule names the program
    ├── MapError          a map of a program that cannot be used so
    │   ├── UnknownMap    the program has no map of this name
    │   ├── BadMapAccess  a key, value or flag that does not fit the map
    │   └── MapShapeChanged  a new program declares a map otherwise than the one it replaces
    ├── FlowError         a flow, match, action or table operation that is not accepted
    │   ├── BadMatch      unknown field, value out of range, missing prerequisite
    │   ├── BadAction     unknown action, unknown port, action that XDP cannot do exactly
    │   ├── BadInstruction  an OpenFlow instruction that is unknown or out of place
    │   ├── BadFlowMod    command, table or flags that are not accepted
    │   ├── BadGroup      a group that is not accepted, is there already, or is not there
    │   └── BadMeter      the same of a meter
    ├── BundleFailed      one change of several that were to take effect together (says which, and why)
    ├── LimitExceeded     something beyond a budget: names it, with used and limit
    ├── ProtocolError     bytes that are not the OpenFlow message they claim to be
    ├── NotExpressible    what the version of OpenFlow that a peer speaks has no words for
    ├── RemoteError       the switch answered a request with an error
    ├── CaptureError      a capture file that cannot be read
    ├── BadPacketTable    a table of packets, with what a filter program should say of them, that cannot be used
    ├── KernelError       the kernel refused something (keeps errno and, for programs, the log)
    │   ├── NotSupported  the running kernel lacks a feature (names the version that has it)
    │   └── KernelRejected  the kernel's own verifier refused the image
    ├── PortError         a port that cannot be used as it is
    ├── StateDamaged      what is on disk of a bridge is not what was written there
    ├── SettingsError     a setting of okod that means nothing, is missing, or does not fit another
    ├── AttachError       an Open vSwitch that cannot be reached, or a bridge of it that cannot be attached to
    └── BridgeError       a bridge that is not there, is taken, or cannot be changed now

`str(error)` is one line: what was wrong, where, and what to do. `error.details` is the rest
(a verifier log, a list of faults), shown with `--verbose`.

This module imports nothing, so that every room may import it.
"""

from __future__ import annotations


class OkoError(Exception):
    """Root of the tree. `message` is one line, `details` any number of lines."""

    def __init__(self, message: str, *, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class ProgramError(OkoError):
    """A filter program that is not accepted."""


class NotCompiled(ProgramError):
    """The source of a filter program that the compiler does not take, or there is no compiler. `details` is what the
    compiler says."""


class NotReadable(ProgramError):
    """The bytes are not an object file that holds a filter program."""


class Rejected(ProgramError):
    """A program that breaks a rule of the filter model. `code` is stable, e.g. ``cycle``; `rejection` is the
    explanation (verifier.rejection.Rejection), from which the message and the details are made."""

    def __init__(self, code: str, message: str, *, details: str = "", rejection: object | None = None) -> None:
        super().__init__(message, details=details)
        self.code = code
        self.rejection = rejection


class UnknownProgram(ProgramError):
    """No program with this id is loaded."""


class ProgramInUse(ProgramError):
    """A rule names the program."""


class MapError(OkoError):
    """A map of a program that cannot be used so."""


class UnknownMap(MapError):
    """The program has no map of this name."""


class BadMapAccess(MapError):
    """A key, value or flag that does not fit the map."""


class MapShapeChanged(MapError):
    """A new program declares a map otherwise than the one it replaces."""


class FlowError(OkoError):
    """A flow, match, action or table operation that is not accepted. `reason` is OpenFlow's own word
    for it (OpenFlow 1.3.5, section 7.4.4), e.g. ``bad-field``; empty where the class says it all."""

    def __init__(self, message: str, *, reason: str = "", details: str = "") -> None:
        super().__init__(message, details=details)
        self.reason = reason


class BadMatch(FlowError):
    """Unknown field, value out of range, missing prerequisite."""


class BadAction(FlowError):
    """Unknown action, unknown port, or an action that XDP cannot do exactly."""


class BadInstruction(FlowError):
    """An OpenFlow instruction that is unknown or out of place."""


class BadFlowMod(FlowError):
    """A command, table or flag of a flow_mod that is not accepted."""


class BadGroup(FlowError):
    """A group that is not accepted, is there already, is not there, or is still needed by another. `reason` is of
    OpenFlow's group-mod-failed."""


class BadMeter(FlowError):
    """A meter that is not accepted, is there already, or is not there. `reason` is of OpenFlow's meter-mod-failed."""


class BundleFailed(OkoError):
    """One change of several that were to take effect together, or not at all: `index` says which, `cause` why."""

    def __init__(self, index: int, cause: OkoError) -> None:
        super().__init__(str(cause), details=cause.details)
        self.index = index
        self.cause = cause


class LimitExceeded(OkoError):
    """A budget that would be exceeded."""

    def __init__(self, what: str, used: int, limit: int, *, advice: str = "") -> None:
        super().__init__(f"{what}: {used} used, limit {limit}" + (f"; {advice}" if advice else ""))
        self.what = what
        self.used = used
        self.limit = limit


class ProtocolError(OkoError):
    """Bytes that are not the OpenFlow message they claim to be. `error_type` and `error_code` are what
    an OFPT_ERROR should carry (OpenFlow 1.3.5, section 7.4.4)."""

    def __init__(self, message: str, *, error_type: int = 1, error_code: int = 6) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.error_code = error_code


class NotExpressible(OkoError):
    """What the version of OpenFlow that a peer speaks has no words for."""


class RemoteError(OkoError):
    """The switch answered a request with an error."""

    def __init__(self, message: str, *, error_type: int, error_code: int) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.error_code = error_code


class CaptureError(OkoError):
    """A capture file that cannot be read."""


class BadPacketTable(OkoError):
    """A table of packets, with what a filter program should say of them, that cannot be used."""


class KernelError(OkoError):
    """The kernel refused something. `errno` is the positive error number."""

    def __init__(self, message: str, *, errno: int = 0, details: str = "") -> None:
        super().__init__(message, details=details)
        self.errno = errno


class NotSupported(KernelError):
    """The running kernel lacks a feature."""


class KernelRejected(KernelError):
    """The kernel's verifier refused the image. `code` is ``kernel-budget`` or ``kernel-verifier``."""

    def __init__(self, message: str, *, code: str, errno: int, details: str) -> None:
        super().__init__(message, errno=errno, details=details)
        self.code = code


class PortError(OkoError):
    """A port that cannot be used as it is."""


class StateDamaged(OkoError):
    """What is on disk of a bridge is not what was written there."""


class SettingsError(OkoError):
    """A setting of okod that means nothing, is missing, or does not fit another."""


class AttachError(OkoError):
    """An Open vSwitch that cannot be reached, or a bridge of it that cannot be attached to."""


class BridgeError(OkoError):
    """A bridge that is not there, is taken, or cannot be changed now."""
