"""A kernel for the guest: Debian's newest cloud kernel of the unstable suite, verified, unpacked, never installed.

virtio_net learnt zero-copy after the kernel that Debian 12 ships, so the guest needs a younger one than most machines
that run this test have. It comes from the mirror that this machine's own apt uses, by apt itself, in a private state
directory: apt checks the suite's signature against Debian's archive keyring and each package against the signed
index, and nothing of the host's package state is touched.

    build/zerocopy/apt/              private lists and cache of apt
    build/zerocopy/kernel/<version>/ what the packages held: vmlinuz and the modules
    build/zerocopy/kernel/current    name of the version in use; its age says when the mirror was last asked

Two kinds of failure, and they must not be mixed up. A mirror that cannot be reached, or has no such package, is
`Unavailable`: the test is skipped, with the reason. A signature or checksum that does not hold is `Tampered`: red.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SUITE = "sid"
META_PACKAGE = "linux-image-cloud-amd64"
# virtio_net binds AF_XDP sockets zero-copy from here on for certain: 6.12 answers EOPNOTSUPP.
OLDEST = (7, 0)
# A week: sid moves every few days, and the test is about our code, not about the newest kernel.
REFRESH_S = 7 * 24 * 3600
APT_TIMEOUT_S = 240
# What apt says when data arrived and is not what was signed. All else that fails is a mirror we cannot have.
_TAMPERED = re.compile(
    r"GPG error|NO_PUBKEY|BADSIG|EXPKEYSIG|REVKEYSIG|is not signed|invalid signature"
    r"|Hash Sum mismatch|unexpected size|could not be authenticated|unauthenticated",
    re.IGNORECASE,
)


class Unavailable(Exception):
    """No suitable kernel can be had here and now; the text says why."""


class Tampered(Exception):
    """The mirror delivered something that its signature or checksum does not cover."""


@dataclass(frozen=True)
class Kernel:
    """One unpacked kernel."""

    version: str  # as `uname -r` will say
    image: Path
    modules: Path  # the directory below which the *.ko.xz lie


def obtain(cache: Path, mirror: str | None = None) -> Kernel:
    """The kernel to boot: the cached one while it is fresh or the mirror is away, else the mirror's newest.

    `mirror` is the one that this machine's apt uses unless told otherwise.
    """
    cache = cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "lock"):
        cached = _cached(cache)
        if cached is not None and time.time() - (cache / "kernel/current").stat().st_mtime < REFRESH_S:
            return cached
        try:
            if shutil.which("apt-get") is None or not KEYRING.exists():
                raise Unavailable(f"not a Debian machine: apt-get and {KEYRING} (debian-archive-keyring) are needed")
            return _fetch(cache, cached, mirror or _mirror())
        except Unavailable as away:
            if cached is None:
                raise
            print(f"kernel: {away}; using {cached.version} from {cache}")
            return cached


def _cached(cache: Path) -> Kernel | None:
    try:
        version = (cache / "kernel/current").read_text().strip()
        return _unpacked(cache / "kernel" / version)
    except (OSError, LookupError):
        return None


def _unpacked(root: Path) -> Kernel:
    """Finds image and modules below an unpacked root. sid keeps vmlinuz beside the modules; older layouts in /boot."""
    images = [*root.glob("usr/lib/modules/*/vmlinuz"), *root.glob("boot/vmlinuz-*")]
    modules = [*root.glob("usr/lib/modules/*/kernel"), *root.glob("lib/modules/*/kernel")]
    if len(images) != 1 or len(modules) != 1:
        raise LookupError(f"{root}: one kernel image and one module directory expected, found {images} and {modules}")
    return Kernel(version=modules[0].parent.name, image=images[0], modules=modules[0])


def _fetch(cache: Path, cached: Kernel | None, mirror: str) -> Kernel:
    apt = _Apt(cache / "apt", mirror)
    apt.run("apt-get", "update")
    depends = apt.run("apt-cache", "show", "--no-all-versions", META_PACKAGE)
    found = re.search(r"\blinux-image-(\d+)\.(\d+)(\S*-cloud-amd64)\b", depends)
    if found is None:
        raise Unavailable(f"{apt.mirror} {SUITE}: {META_PACKAGE} names no kernel")
    version = f"{found[1]}.{found[2]}{found[3]}"
    if (int(found[1]), int(found[2])) < OLDEST:
        raise Unavailable(f"{apt.mirror} {SUITE}: newest cloud kernel is {version}, needed is {OLDEST[0]}.{OLDEST[1]}")
    current = cache / "kernel/current"
    if cached is not None and cached.version == version:
        current.touch()
        return cached
    # linux-image once held everything; today it is a shell around a package with the image and one with the modules.
    known = set(apt.run("apt-cache", "pkgnames", "linux-").split())
    wanted = [f"linux-{part}-{version}" for part in ("image", "binary", "modules")]
    packages = [name for name in wanted if name in known]
    root = cache / "kernel" / version
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        apt.run("apt-get", "download", *packages, cwd=Path(scratch))
        unpacking = Path(scratch) / "root"
        for package in sorted(Path(scratch).glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", package, unpacking], check=True, timeout=APT_TIMEOUT_S)
        try:
            _unpacked(unpacking)
        except LookupError as odd:
            raise Unavailable(
                f"{apt.mirror} {SUITE}: the packages {' '.join(packages)} are laid out anew: {odd}"
            ) from odd
        shutil.rmtree(cache / "kernel", ignore_errors=True)
        root.parent.mkdir()
        unpacking.rename(root)
    shutil.rmtree(cache / "apt", ignore_errors=True)
    current.write_text(version + "\n")
    return _unpacked(root)


class _Apt:
    """apt on a state directory of its own: no list, cache, lock or dpkg status is shared with the host."""

    def __init__(self, state: Path, mirror: str) -> None:
        self.mirror = mirror
        for below in ("state/lists/partial", "cache/archives/partial", "no-parts"):
            (state / below).mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        sources = state / "guest.sources"
        sources.write_text(
            f"Types: deb\nURIs: {self.mirror}\nSuites: {SUITE}\nComponents: main\nArchitectures: amd64\n"
            f"Signed-By: {KEYRING}\n"
        )
        options = {
            "Dir::State": state / "state",
            "Dir::State::status": state / "status",
            "Dir::Cache": state / "cache",
            "Dir::Etc::sourcelist": sources,
            "Dir::Etc::sourceparts": state / "no-parts",
            "APT::Architecture": "amd64",
            "APT::Update::Error-Mode": "any",  # without it a failed download is a warning and exit code 0
            "APT::Sandbox::User": "root",  # the state directory belongs to whoever runs the test
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "Acquire::Retries": "2",
            "Acquire::http::Timeout": "30",
        }
        self.options = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]

    def run(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        command = [program, *self.options, "-q", *arguments]
        environment = {**os.environ, "LC_ALL": "C"}
        try:
            done = subprocess.run(
                command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=APT_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as slow:
            raise Unavailable(f"{program} {arguments[0]} from {self.mirror}: no end after {APT_TIMEOUT_S} s") from slow
        if done.returncode != 0:
            said = "\n".join(line for line in done.stderr.splitlines() if line[:2] in ("E:", "W:")) or done.stderr
            where = f"{program} {arguments[0]} ({SUITE} of {self.mirror}) failed:\n{said.strip()}"
            raise Tampered(where) if _TAMPERED.search(done.stderr) else Unavailable(where)
        return done.stdout


def _mirror() -> str:
    """The Debian mirror of this machine's own apt; Debian's front door where none is known."""
    listed = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(REPO_URI)",
            "Created-By: Packages",
            "Origin: Debian",
            "Label: Debian",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return next(iter(listed.stdout.split()), "http://deb.debian.org/debian/")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
