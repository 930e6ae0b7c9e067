"""The tracing program in the kernel: what it needs, how it is compiled and loaded, and its records.

bcc compiles at run time, with LLVM and with the headers of the kernel, so it serves here and never the data path. It is
Debian's python3-bpfcc (the package `bcc` of PyPI is another project), importable by Debian's own Python only. It is
imported when a trace begins; what is missing is said with the command that gets it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from afterburnerd.cli import EXIT_PERMISSION, EXIT_UNREACHABLE, ToolError
from afterburnerd.ctl.trace.btf import Btf, BtfError
from afterburnerd.ctl.trace.events import reasons_of

SOURCE = Path(__file__).with_name("trace.c")
TRACEFS = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))  # in this order, as bcc looks
TRACEPOINTS = ("xdp/xdp_exception", "xdp/xdp_redirect_err", "xdp/xdp_devmap_xmit", "skb/kfree_skb")
KHEADERS = Path("/sys/kernel/kheaders.tar.xz")
SAID_LINES = 12  # of what the compiler says


def check_rights() -> None:
    if os.geteuid() != 0:
        raise ToolError("tracing the kernel needs root: run it with sudo", EXIT_PERMISSION)


def load_bcc() -> Any:
    """The module, or what to install."""
    try:
        import bcc
    except ImportError as error:
        raise ToolError(
            f"live tracing needs Debian's bcc, which {sys.executable} does not find ({error}): apt install python3-bpfcc. It "
            "works with Debian's /usr/bin/python3, and environments made from that with --system-site-packages",
            EXIT_UNREACHABLE,
        ) from None
    if not hasattr(bcc, "BPF"):  # the package of that name at PyPI is another project
        raise ToolError(
            f"{bcc.__file__} is not the bcc that traces kernels: pip uninstall bcc; apt install python3-bpfcc",
            EXIT_UNREACHABLE,
        )
    return bcc


def check_headers(release: str, modules: Path = Path("/lib/modules"), kheaders: Path = KHEADERS) -> None:
    """bcc would look in these places, and fail without saying what to do."""
    if os.environ.get("BCC_KERNEL_SOURCE") or (modules / release / "build").exists() or kheaders.exists():
        return
    raise ToolError(
        f"bcc compiles at run time and needs the headers of this kernel, and {modules}/{release}/build is not there: "
        f"apt install linux-headers-{release} (a kernel that is not Debian's: its own headers package, or CONFIG_IKHEADERS)",
        EXIT_UNREACHABLE,
    )


def tracefs(places: Iterable[Path] = TRACEFS) -> Path:
    """Where the kernel describes its tracepoints. ToolError where it does not, or lacks one of ours."""
    for place in places:
        if (place / "events").is_dir():
            break
    else:
        raise ToolError(
            "the kernel's tracepoints are not to be seen: mount -t tracefs none /sys/kernel/tracing (`ip netns exec` hides "
            "them: mount it inside)",
            EXIT_UNREACHABLE,
        )
    missing = [name for name in TRACEPOINTS if not (place / "events" / name / "format").exists()]
    if missing:
        raise ToolError(f"this kernel has no tracepoint {', '.join(missing)}", EXIT_UNREACHABLE)
    return place


def definitions(btf: Btf, format_: str, ports: Iterable[int], ifindex: int) -> list[str]:
    """What trace.c wants to know."""
    ours = " || ".join(f"(port) == {port}" for port in sorted(ports)) or "0"
    return [
        f"-DIFINDEX={ifindex}",
        f"-DOURS(port)=({ours})",
        f"-DSKB_HEAD={btf.offset('sk_buff', 'head')}",
        f"-DSKB_NETWORK_HEADER={btf.offset('sk_buff', 'network_header')}",
        f"-DSKB_DEV={btf.offset('sk_buff', 'dev')}",
        f"-DDEVICE_IFINDEX={btf.offset('net_device', 'ifindex')}",
        f"-DREASON={'args->reason' if ' reason;' in format_ else '0'}",  # since Linux 5.17
    ]


@contextlib.contextmanager
def heard() -> Iterator[Callable[[], str]]:
    """What C code writes to standard error meanwhile is kept instead, and returned by what is yielded."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)

        def read() -> str:
            said.seek(0)
            return said.read().decode(errors="replace").strip()

        try:
            yield read
        finally:
            os.dup2(kept, 2)
            os.close(kept)


class Tracer:
    """A loaded program: `poll` for records. Everything is gone with `close`, or with the process."""

    def __init__(self, ports: Iterable[int], ifindex: int) -> None:
        check_rights()
        bcc = load_bcc()
        release = platform.release()
        check_headers(release)
        format_ = (tracefs() / "events/skb/kfree_skb/format").read_text()
        self.reasons = reasons_of(format_)
        try:
            flags = definitions(Btf.of_kernel(), format_, ports, ifindex)
        except BtfError as error:
            raise ToolError(
                f"the kernel does not describe itself (CONFIG_DEBUG_INFO_BTF): {error}", EXIT_UNREACHABLE
            ) from None
        with heard() as said:
            try:
                self._bpf = bcc.BPF(text=SOURCE.read_text(), cflags=flags)
            except Exception as error:  # bcc raises nothing more exact
                lines = said().splitlines()[-SAID_LINES:] or [str(error)]
                raise ToolError(
                    f"bcc cannot compile or load the tracing program on Linux {release}:\n  " + "\n  ".join(lines),
                    EXIT_UNREACHABLE,
                ) from None
        self._bcc = bcc
        self._records: list[bytes] = []
        self._bpf["events"].open_ring_buffer(self._take)

    def _take(self, _: Any, data: Any, size: int) -> int:
        import ctypes

        self._records.append(ctypes.string_at(data, size))
        return 0

    def poll(self, seconds: float) -> list[bytes]:
        """Records that came within this time; returns with the first."""
        self._bpf.ring_buffer_poll(round(seconds * 1000))
        records, self._records = self._records, []
        return records

    @property
    def lost(self) -> int:
        """Records for which there was no room."""
        lost: int = self._bpf["lost"][0].value
        return lost

    def symbol(self, address: int) -> str:
        """The kernel's function at this address."""
        name: str = self._bcc.BPF.ksym(address).decode(errors="replace")
        return "" if name == "[unknown]" else name

    def close(self) -> None:
        self._bpf.cleanup()
