"""`run` and `booted`: a command in a guest that has this kernel and, read-only, the host's file system."""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from oko.errors import KernelError, NotSupported
from tests.vm.kernel import Kernel

ROOT = Path(__file__).resolve().parents[2]
QEMU = "qemu-system-x86_64"
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
PACKAGES = {QEMU: "qemu-system-x86", VIRTIOFSD: "qemu-system-common", "busybox": "busybox-static"}
"""Program → the package of Debian 12 that holds it."""

MODULES = ("virtio_pci", "virtiofs", "overlay")
"""What the guest must load before it sees the host's files. The kernel itself asks for what it needs later."""

MEMORY = "2G"
CPUS = 2
"""More than one, so that per-CPU maps have more than one value."""

_SHARE = """
mount --bind -o ro / "$1"
mount --bind -o ro "$2" "$1$2"
shift 2
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """What differs from guest to guest: what executes its instructions (``-accel``) as which processor (``-cpu``),
    further arguments of qemu, modules that the guest loads before it runs the command, further words for its kernel,
    and the command that qemu is run by."""

    accelerator: str = "tcg"
    cpu: str = "max"
    arguments: Sequence[str] = ()
    modules: Sequence[str] = ()
    words: Sequence[str] = ()
    prefix: Sequence[str] = ("nice", "-n", "10")


EMULATED = Machine()
"""Without hardware virtualisation, behind everybody else's work."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A running guest. `status` is the file that gets the command's exit status, at its end."""

    qemu: subprocess.Popen[bytes]
    status: Path


def missing_program() -> str | None:
    """What a guest needs and this machine has not, and its package; None if it has everything."""
    for program, package in PACKAGES.items():
        if shutil.which(program) is None:
            return f"{program} is not there: run 'apt-get install {package}'"
    return None


def run(kernel: Kernel, command: Sequence[str], timeout: float, machine: Machine = EMULATED) -> int:
    """Run the command in the repository, as root, its output on stdout; return its exit status.

    `timeout` is in seconds, from power-on. Raises NotSupported when a program is missing, and KernelError
    when the guest takes longer or ends before the command has.
    """
    with booted(kernel, command, machine) as guest:
        try:
            guest.qemu.wait(timeout)
        except subprocess.TimeoutExpired as error:
            late = f"the guest with kernel {kernel.release} was still running after {timeout:.0f} s"
            raise KernelError(late) from error
        if not (said := guest.status.read_text().strip()):
            raise KernelError(f"the guest with kernel {kernel.release} ended before the command: see its last lines")
        return int(said)


@contextmanager
def booted(
    kernel: Kernel, command: Sequence[str], machine: Machine = EMULATED, *, stdout: int | None = None
) -> Iterator[Guest]:
    """A guest that runs the command in the repository, as root, and then switches itself off; at the latest the end of
    the context does. The command's output, and the kernel's, is on `stdout` as subprocess.Popen has it. Raises
    NotSupported when a program or a module is missing."""
    if (reason := missing_program()) is not None:
        raise NotSupported(reason)
    with tempfile.TemporaryDirectory(prefix="oko-vm-") as name:
        directory = Path(name)
        _write_initramfs(kernel, command, machine, directory)
        with _shared_files(directory) as place:
            status = directory / "status"
            words = [*machine.prefix, *_qemu(kernel, machine, directory, place, status)]
            with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=stdout) as qemu:
                try:
                    yield Guest(qemu, status)
                finally:
                    qemu.kill()


def _write_initramfs(kernel: Kernel, command: Sequence[str], machine: Machine, directory: Path) -> None:
    tree = directory / "tree"
    load = tree / "oko" / "load"
    load.mkdir(parents=True)
    for number, module in enumerate(kernel.closure(*MODULES, *machine.modules)):
        shutil.copy(module, load / f"{number:02}-{module.name}")
    settings = {"REPOSITORY": str(ROOT), "MODULES": str(kernel.modules.parent), "COMMAND": shlex.join(command)}
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in settings.items()]
    (tree / "oko" / "settings").write_text("".join(lines))
    busybox = tree / "bin" / "busybox"
    busybox.parent.mkdir()
    shutil.copy(shutil.which("busybox") or "", busybox)
    shutil.copy(Path(__file__).with_name("init"), tree / "init")
    (tree / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    with (directory / "initramfs").open("wb") as archive:
        pack = ["busybox", "cpio", "-o", "-H", "newc"]
        subprocess.run(pack, cwd=tree, input=names.encode(), stdout=archive, stderr=subprocess.PIPE, check=True)


@contextmanager
def _shared_files(directory: Path) -> Iterator[Path]:
    """The host's root file system and the repository, read-only, on the socket that is returned.

    They are mounted in a mount namespace of the server's own, which ends with it.
    """
    place, root = directory / "files", directory / "host"
    root.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen(1)
        mount = ["unshare", "--mount", "sh", "-ec", _SHARE, "sh", str(root), str(ROOT)]
        serve = [VIRTIOFSD, f"--fd={listener.fileno()}", "-o", f"source={root},cache=always,sandbox=chroot", "-f"]
        with (directory / "server").open("w") as log:
            server = subprocess.Popen([*mount, *serve], pass_fds=[listener.fileno()], stderr=log)
    try:
        yield place
    finally:
        server.terminate()
        server.wait()


def _qemu(kernel: Kernel, machine: Machine, directory: Path, place: Path, status: Path) -> list[str]:
    """The command; `status` gets what the guest writes to its second serial line."""
    words = [QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    words += ["-machine", f"pc,accel={machine.accelerator},memory-backend=memory", "-cpu", machine.cpu]
    words += ["-smp", str(CPUS), "-m", MEMORY]
    words += ["-object", f"memory-backend-memfd,id=memory,size={MEMORY},share=on"]
    words += ["-chardev", f"socket,id=files,path={place}", "-device", "vhost-user-fs-pci,chardev=files,tag=host"]
    words += ["-serial", "stdio", "-serial", f"file:{status}"]
    words += ["-kernel", str(kernel.image), "-initrd", str(directory / "initramfs")]
    words += ["-append", " ".join(("console=ttyS0", "quiet", "panic=-1", *machine.words))]
    return [*words, *machine.arguments]
