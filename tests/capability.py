"""What this machine lets a root process do. A container may be root and still not be allowed bpf(2)."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
import struct

SYS_BPF = {"x86_64": 321, "aarch64": 280}
BPF_MAP_CREATE = 0
BPF_MAP_TYPE_ARRAY = 2


@functools.cache
def bpf_refusal() -> str:
    """Why bpf(2) is refused here; "" where it works. Asked by making a map of one element."""
    number = SYS_BPF.get(platform.machine())
    if number is None:
        return ""  # unknown: let the test find out
    attributes = struct.pack("5I", BPF_MAP_TYPE_ARRAY, 4, 4, 1, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(number, BPF_MAP_CREATE, attributes, len(attributes))
    if fd >= 0:
        os.close(fd)
        return ""
    code = ctypes.get_errno()
    hint = "; a container's seccomp filter? systemd-nspawn has one against bpf" if code == errno.EPERM else ""
    return f"bpf(BPF_MAP_CREATE): {os.strerror(code)}{hint}"
