"""Where the guest's kernel comes from: what is missing skips the zero-copy test, what is forged fails it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from . import kernel

LISTS = Path("/var/lib/apt/lists")

pytestmark = pytest.mark.skipif(not kernel.KEYRING.exists(), reason="not a Debian machine: no archive keyring")


def test_an_unreachable_mirror_means_no_kernel(tmp_path: Path) -> None:
    with pytest.raises(kernel.Unavailable, match="apt-get update"):
        kernel.obtain(tmp_path / "cache", mirror="http://127.0.0.1:9/debian/")


def test_a_mirror_without_the_suite_means_no_kernel(tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    with pytest.raises(kernel.Unavailable, match="apt-get update"):
        kernel.obtain(tmp_path / "cache", mirror=f"file:{tmp_path}/mirror")


def test_a_forged_index_is_an_error_and_not_a_skip(tmp_path: Path) -> None:
    genuine = sorted(LISTS.glob("*_InRelease"))
    if not genuine:
        pytest.skip(f"no signed index in {LISTS} to forge: run apt-get update")
    suite = tmp_path / "mirror/dists" / kernel.SUITE
    suite.mkdir(parents=True)
    # The signature is Debian's, the text no longer what it signed.
    text = genuine[0].read_text()
    assert "\nSuite: " in text
    (suite / "InRelease").write_text(text.replace("\nSuite: ", "\nSuite: un", 1))
    with pytest.raises(kernel.Tampered, match="BADSIG"):
        kernel.obtain(tmp_path / "cache", mirror=f"file:{tmp_path}/mirror")


def test_the_cached_kernel_serves_while_the_mirror_is_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "kernel/9.9.9-cloud-amd64"
    library = root / "usr/lib/modules/9.9.9-cloud-amd64"
    (library / "kernel").mkdir(parents=True)
    (library / "vmlinuz").touch()
    current = tmp_path / "kernel/current"
    current.write_text("9.9.9-cloud-amd64\n")
    assert kernel.obtain(tmp_path, mirror="http://127.0.0.1:9/").image == library / "vmlinuz"
    assert capsys.readouterr().out == "", "a fresh kernel is used without asking anyone"
    stale = current.stat().st_mtime - 2 * kernel.REFRESH_S
    os.utime(current, (stale, stale))
    assert kernel.obtain(tmp_path, mirror="http://127.0.0.1:9/").version == "9.9.9-cloud-amd64"
    assert "using 9.9.9-cloud-amd64" in capsys.readouterr().out
