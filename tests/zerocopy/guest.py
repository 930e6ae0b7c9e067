"""A guest machine of two linked NICs: assembles its initramfs from this machine's files and runs QEMU to its end.

Why a guest at all: AF_XDP's zero-copy mode lives in NIC drivers. veth has none, and a machine that runs tests seldom
has a NIC to spare. virtio_net has it in kernels of the 7 series (6.12: not yet), provided that the device does DMA
through the kernel's DMA API (`iommu_platform=on`; without it bind says EINVAL). So QEMU emulates two such NICs, a wire between them, and a CPU
(TCG: slow, and works without /dev/kvm everywhere), and the guest's kernel treats them as it would treat hardware.

        guest  +-------------------------------------------------------+
               |   left: eth0                          right: eth1     |
               +------+--------------------------------------+---------+
        QEMU     virtio-net-pci                        virtio-net-pci
                 -netdev dgram <== two unix datagram sockets ==>
                 console (ttyS0) -> file          report (ttyS1) -> file

The datagram link keeps order and, as a full socket holds the sender back, loses nothing: counts must be exact.

The guest has no disk. Its root is an initramfs made of what the tests run with anyway: Debian's Python, the packages
that pyproject.toml names, the built tree, and every shared library these need (ldd knows). `init` (busybox) brings the
machine up and runs the harness, whose words go to the console and whose result goes to the second serial port; then it
powers the machine off. Three bounds hold, one inside the other: the harness's own, a poweroff that `init` schedules
first of all, and `boot`'s, which kills QEMU. QEMU also dies with the process that started it.

One thing about memory is subtle. virtio_net gives the device a header of zeros in front of each frame of an AF_XDP
socket, a static variable (`xsk_hdr`) whose address it maps for DMA as if it lay in the kernel's linear map. Where
virtio_net is a module, as in Debian's kernels (seen with 7.2.13), that is not so, and the device is told a physical
address that has nothing to do with the variable: the module's address less 0xffffffff80000000, plus what KASLR adds.
QEMU ignores what stands in the header here, but where the address is not RAM it has one bounce buffer for all devices,
and two NICs that need it at once break with "virtio: bogus descriptor or out of resources". So the kernel boots without
KASLR, which puts the address a little above 1 GiB, and the guest has RAM there. Most of it is never touched.

The two CPUs of the guest take turns in one thread of QEMU. With a thread each (thread=multi) a run takes half the time,
but one boot in some fifty ended in "Oops: int3": while one CPU patches a jump label of the kernel, QEMU 7.2 can keep a
stale translation of the breakpoint for the other.
"""

from __future__ import annotations

import lzma
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .kernel import Kernel

QEMU = "qemu-system-x86_64"
# Loadable in Debian's cloud kernel; their dependencies (failover, net_failover) are found by name. The rest is built in.
MODULES = ("virtio_net",)
MEMORY_MIB = 1280  # more than 1 GiB and what modules take: see above
CPUS = 2
LIBRARIES = Path("usr/lib/x86_64-linux-gnu")  # one of the loader's default directories: no ld.so.cache needed
MERGED = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
EMPTY = ("dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp", "var")


@dataclass(frozen=True)
class Outcome:
    """How one boot went."""

    ended: bool  # the guest powered itself off in time
    seconds: float  # from QEMU's start to its end
    console: str  # everything that the guest said, terminal control removed
    report: str  # what the harness wrote to its result port


class Root:
    """The guest's root directory, collected from this machine's files below `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._elf: list[Path] = []
        for link, target in MERGED.items():
            (path / target).mkdir(parents=True)
            (path / link).symlink_to(target)
        for name in EMPTY:
            (path / name).mkdir()

    def add(self, source: Path, target: str | Path) -> None:
        """Copies one file. Its time stays (Python compares it with that of the compiled module)."""
        there = self.path / target
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, there)
        with source.open("rb") as file:
            if file.read(4) == b"\x7fELF":
                self._elf.append(source)

    def add_tree(self, source: Path, target: str | Path, leave_out: Iterable[str] = ()) -> None:
        """Copies a directory, but for the names that are left out wherever they occur."""
        out = set(leave_out)
        for entry in sorted(source.iterdir()):
            if entry.name in out:
                continue
            if entry.is_dir():
                self.add_tree(entry, Path(target) / entry.name, out)
            elif entry.is_file():
                self.add(entry, Path(target) / entry.name)

    def add_program(self, name: str) -> None:
        found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
        if found is None:
            raise FileNotFoundError(
                f"{name}: the guest needs it; `make setup` installs what deploy/debian/packages.txt lists"
            )
        self.add(Path(found).resolve(), Path("usr/bin") / name)

    def add_modules(self, kernel: Kernel, names: Iterable[str]) -> None:
        """Unpacks modules and what they depend on, and writes down the order in which they load."""
        files = {path.name.removesuffix(".ko.xz").replace("-", "_"): path for path in kernel.modules.rglob("*.ko.xz")}
        order: list[str] = []

        def load(name: str) -> None:
            if name in order:
                return
            if name not in files:
                raise FileNotFoundError(f"kernel {kernel.version} has no module {name} below {kernel.modules}")
            body = lzma.decompress(files[name].read_bytes())
            depends = re.search(rb"\0depends=([^\0]*)\0", body)
            for other in depends[1].decode().split(",") if depends else ():
                if other:
                    load(other.replace("-", "_"))
            target = self.path / "modules" / f"{name}.ko"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(body)
            order.append(name)

        for name in names:
            load(name)
        (self.path / "modules/order").write_text("".join(f"{name}\n" for name in order))

    def pack(self, image: Path) -> None:
        """Adds the shared libraries of all that was collected and writes the initramfs."""
        (self.path / LIBRARIES).mkdir(parents=True, exist_ok=True)
        for library in _libraries(self._elf):
            directory = self.path / ("usr/lib64" if library.name.startswith("ld-linux") else LIBRARIES)
            shutil.copy2(library, directory / library.name)
        names = sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*"))
        with image.open("wb") as archive:
            # Not compressed: unpacking costs the emulated CPU more than the bytes cost QEMU.
            subprocess.run(
                ["cpio", "--create", "--null", "--format=newc", "--owner=0:0", "--quiet"],
                cwd=self.path,
                input="\0".join(names).encode(),
                stdout=archive,
                check=True,
            )


def _libraries(files: Iterable[Path]) -> set[Path]:
    """Every shared library that these programs and modules load, as ldd resolves it here."""
    said = subprocess.run(["ldd", *sorted(set(files))], capture_output=True, text=True, check=False).stdout
    if missing := re.findall(r"\t(\S+) => not found", said):
        raise FileNotFoundError(
            f"ldd does not find {', '.join(sorted(set(missing)))}: is everything built and installed?"
        )
    return {Path(path) for path in re.findall(r"(?:=> |\t)(/\S+) \(0x", said)}


def boot(kernel: Kernel, initramfs: Path, scratch: Path, *, timeout_s: float) -> Outcome:
    """Runs one guest to its end, or ends it after `timeout_s`. What it needs meanwhile lies in `scratch`."""
    if shutil.which(QEMU) is None:
        raise FileNotFoundError(f"{QEMU} is not installed: `make setup` installs what deploy/debian/packages.txt lists")
    command = ["setpriv", "--pdeathsig", "KILL", "--", QEMU]
    command += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none"]
    command += ["-machine", "q35", "-accel", "tcg,thread=single", "-cpu", "max", "-smp", str(CPUS)]
    command += ["-m", f"{MEMORY_MIB}M", "-kernel", str(kernel.image), "-initrd", str(initramfs)]
    # A panic reboots at once, and -no-reboot turns that into QEMU's end.
    command += ["-append", "console=ttyS0 nokaslr panic=-1 oops=panic quiet loglevel=4"]
    command += ["-serial", "file:console", "-serial", "file:report"]
    for index, (mine, peer) in enumerate((("left", "right"), ("right", "left"))):
        command += ["-netdev", f"dgram,id={mine},local.type=unix,local.path={mine},remote.type=unix,remote.path={peer}"]
        nic = f"virtio-net-pci,netdev={mine},mac=52:54:00:ab:00:0{index + 1}"
        command += ["-device", f"{nic},iommu_platform=on,disable-legacy=on,romfile="]
    started = time.monotonic()
    try:
        # Where sockets and outputs lie is the working directory: the name of a unix socket holds 107 bytes.
        qemu = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=timeout_s, check=False)
        ended, said = qemu.returncode == 0, qemu.stderr
    except subprocess.TimeoutExpired:
        ended, said = False, f"no end after {timeout_s:.0f} s: killed"
    seconds = time.monotonic() - started
    console = _plain(scratch / "console") + (f"\n{QEMU}: {said.strip()}\n" if said.strip() else "")
    return Outcome(ended=ended, seconds=seconds, console=console, report=_plain(scratch / "report"))


def _plain(path: Path) -> str:
    """A serial port's output as text, without the control sequences of terminals."""
    try:
        raw = path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|c)", "", raw).replace("\r", "")
