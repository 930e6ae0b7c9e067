"""Files in POSIX shared memory: how one comes to its name, and how one that was found there is looked at.

/dev/shm is a directory in which every local user may make files. Two consequences run through this module:

- *A name is taken only by a finished file.* A new file is made without a name (O_TMPFILE), filled in, and linked to its
  name in one step that fails where the name exists. Nobody ever opens a half-made file, and a maker that is killed
  leaves nothing behind.
- *What is found under a name is a stranger's until proven otherwise.* It is opened without following links and without
  waiting (a FIFO planted there must not hang us), and looked at (type, owner) before a byte of it is believed.

glibc keeps POSIX shared memory in /dev/shm (shm_overview(7)); posix_ipc opens and removes by name, `os` does the rest.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

import posix_ipc

DIRECTORY = Path("/dev/shm")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")


class ShmError(Exception):
    """What a person reads when shared memory is not as it should be; `exit_code` is what a command ends with."""

    exit_code = 69


class NotThere(ShmError):
    """Nothing lies under this name: no daemon runs, and none has left anything."""

    exit_code = 3


class Forbidden(ShmError):
    """The file exists and may not be opened."""

    exit_code = 77


class Invalid(ShmError):
    """The file exists and is not ours, or not what its first bytes should say."""


class InUse(ShmError):
    """A living daemon works under this name."""


def path_of(name: str) -> Path:
    """Where `/name` lies. Refuses names that could leave the directory."""
    if not NAME.fullmatch(name):
        raise Invalid(f"{name!r} is no name for shared memory: letters, digits, '.', '_' and '-' only, 200 at most")
    return DIRECTORY / name


def create(size: int) -> int:
    """A file of `size` zero bytes without a name; returns its descriptor. `publish` names it."""
    fd = os.open(DIRECTORY, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        # Reserved now, so that a full /dev/shm is an error here instead of a SIGBUS in the loop later.
        os.posix_fallocate(fd, 0, size)
    except OSError as e:
        os.close(fd)
        raise ShmError(
            f"{DIRECTORY}: no room for {size} bytes of shared memory ({e.strerror}): "
            f"see `df {DIRECTORY}`; enlarge it with `mount -o remount,size=... {DIRECTORY}`"
        ) from e
    return fd


def publish(fd: int, name: str, mode: int) -> bool:
    """Gives a finished file its name and mode; False where the name is taken."""
    path = path_of(name)
    os.fchmod(fd, mode)
    # src_dir_fd makes Python call linkat(2), the only call that follows /proc/self/fd/N to the nameless file.
    directory = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=directory, follow_symlinks=True)
    except FileExistsError:
        return False
    finally:
        os.close(directory)
    return True


def open_readonly(name: str) -> tuple[int, os.stat_result]:
    """Opens `/name` for reading and makes sure that it is a regular file; the caller owns the descriptor."""
    path = path_of(name)
    try:
        # Flags go to shm_open(3) as they are: with O_NONBLOCK a FIFO opens (and is refused below) instead of waiting.
        shm = posix_ipc.SharedMemory(f"/{name}", flags=os.O_NONBLOCK, read_only=True)
    except posix_ipc.ExistentialError:
        raise NotThere(f"{path}: there is no such shared memory: no daemon of this name is running") from None
    except posix_ipc.PermissionsError:
        raise Forbidden(f"{path}: not readable for uid {os.geteuid()}: ask as root or as the daemon's user") from None
    except OSError as e:
        if e.errno == errno.ELOOP:
            raise Invalid(f"{path}: a symbolic link where a daemon's memory should be; remove it: rm {path}") from None
        raise Invalid(f"{path}: cannot be opened: {e.strerror}") from e
    fd: int = shm.fd
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise Invalid(f"{path}: not a regular file: someone else put it there; remove it: rm {path}")
    except BaseException:
        os.close(fd)
        raise
    return fd, info


def read(fd: int, size: int, offset: int = 0) -> bytes:
    """Up to `size` bytes of the file, fewer where it ends before.

    Reading copies; a mapping would let the file's owner kill the reader (SIGBUS) by cutting the file short.
    The kernel copies aligned memory in steps of at least 8 bytes on x86-64 and arm64, so no u64 is seen half-written.
    """
    parts = []
    while size > 0 and (part := os.pread(fd, size, offset)):
        parts.append(part)
        size -= len(part)
        offset += len(part)
    return b"".join(parts)


def unlink(name: str) -> None:
    """Removes the name; what has the file open keeps it. Nothing there is no error."""
    path = path_of(name)
    try:
        posix_ipc.unlink_shared_memory(f"/{name}")
    except posix_ipc.ExistentialError:
        return
    except IsADirectoryError:
        raise Invalid(f"{path}: a directory where a daemon's memory should be; remove it: rmdir {path}") from None
    except posix_ipc.PermissionsError:
        raise Forbidden(f"{path}: not ours to remove (uid {os.geteuid()}): remove it as its owner: rm {path}") from None


def remove_own(name: str) -> None:
    """Removes a file that a daemon of ours left under this name. Another user's is not ours to remove: Invalid."""
    path = path_of(name)
    try:
        owner = path.lstat().st_uid
    except FileNotFoundError:
        return
    if owner != os.geteuid() and os.geteuid() != 0:
        raise Invalid(
            f"{path} belongs to uid {owner}, not to uid {os.geteuid()} that we run as: remove it as its owner: rm {path}"
        )
    unlink(name)


# --- files of workers: `/<name>.<kind>.<worker>` --------------------------------------------------------------------------


def name_of(name: str, kind: str, worker: int) -> str:
    return f"{name}.{kind}.{worker}"


def workers_of(name: str, kind: str) -> list[int]:
    """Workers that have a file of this kind under this name now."""
    path_of(name)
    pattern = re.compile(re.escape(f"{name}.{kind}.") + r"(\d{1,5})")
    with os.scandir(DIRECTORY) as entries:
        return sorted(int(m[1]) for e in entries if (m := pattern.fullmatch(e.name)))


def remove_workers(name: str, kind: str, keep: int = 0) -> None:
    """Removes the files of workers `keep` and up: of an earlier daemon that had more of them, or at the end (keep = 0)."""
    for worker in workers_of(name, kind):
        if worker >= keep:
            remove_own(name_of(name, kind, worker))


def publish_anew(fd: int, name: str, kind: str, worker: int, mode: int) -> None:
    """Gives a worker's finished file its name, in place of one that an earlier daemon left. That daemon's name must be ours
    already (see Segment.create)."""
    full = name_of(name, kind, worker)
    for _ in range(8):
        if publish(fd, full, mode):
            return
        remove_own(full)
    raise InUse(f"{path_of(full)}: somebody makes it again and again: is a second daemon named {name!r}?")
