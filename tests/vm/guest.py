"""`run`: a command in a guest that has this kernel and, read-only, the host's file system."""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


def run(kernel: Kernel, command: Sequence[str], timeout: float) -> int:
    """Run the command in the repository, as root, its output on stdout; return its exit status.

    `timeout` is in seconds, from power-on. Raises NotSupported when a program is missing, and KernelError
    when the guest takes longer or ends before the command has.
    """
    for program, package in PACKAGES.items():
        if shutil.which(program) is None:
            raise NotSupported(f"{program} is not there: run 'apt-get install {package}'")
    with tempfile.TemporaryDirectory(prefix="oko-vm-") as name:
        directory = Path(name)
        status = directory / "status"
        _write_initramfs(kernel, command, directory)
        with _shared_files(directory) as place:
            _boot(kernel, directory, place, status, timeout)
        if not (said := status.read_text().strip()):
            raise KernelError(f"the guest with kernel {kernel.release} ended before the command: see its last lines")
        return int(said)


def _write_initramfs(kernel: Kernel, command: Sequence[str], directory: Path) -> None:
    tree = directory / "tree"
    load = tree / "oko" / "load"
    load.mkdir(parents=True)
    for number, module in enumerate(kernel.closure(*MODULES)):
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


def _boot(kernel: Kernel, directory: Path, place: Path, status: Path, timeout: float) -> None:
    """Run the machine until it switches itself off; `status` is what it writes to its second serial line."""
    machine = [QEMU, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    machine += ["-machine", "pc,accel=tcg,memory-backend=memory", "-cpu", "max", "-smp", str(CPUS), "-m", MEMORY]
    machine += ["-object", f"memory-backend-memfd,id=memory,size={MEMORY},share=on"]
    machine += ["-chardev", f"socket,id=files,path={place}", "-device", "vhost-user-fs-pci,chardev=files,tag=host"]
    machine += ["-serial", "stdio", "-serial", f"file:{status}"]
    machine += ["-kernel", str(kernel.image), "-initrd", str(directory / "initramfs")]
    machine += ["-append", "console=ttyS0 quiet panic=-1"]
    process = subprocess.Popen(["nice", "-n", "10", *machine], stdin=subprocess.DEVNULL)
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired as error:
        raise KernelError(f"the guest with kernel {kernel.release} was still running after {timeout:.0f} s") from error
    finally:
        process.kill()
        process.wait()
