"""Advice on huge pages never takes any away from others."""

from __future__ import annotations

from pathlib import Path

from afterburnerd.supervisor import hugepages


def test_what_others_use_is_counted_in() -> None:
    assert hugepages.advice(8, 0, 0) == "sysctl vm.nr_hugepages=8, then systemctl restart afterburner"
    assert hugepages.advice(8, 24, 0) == "sysctl vm.nr_hugepages=32, then systemctl restart afterburner"
    assert hugepages.advice(8, 24, 5) == "sysctl vm.nr_hugepages=27, then systemctl restart afterburner"
    assert "nr_hugepages" not in hugepages.advice(8, 24, 8)


def test_the_pool_is_read_and_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "nr_hugepages").write_text("24\n")
    (tmp_path / "free_hugepages").write_text("5\n")
    assert hugepages.reserved(tmp_path) == (24, 5)
    assert hugepages.reserved(tmp_path / "none") == (0, 0)
