"""CPU lists as the kernel writes them, and the interrupts of a NIC found in /proc and /sys."""

from __future__ import annotations

import pathlib

import pytest

from afterburnerd.net.queues import Interrupt, interrupts, parse_cpu_list

PROC_INTERRUPTS = """\
            CPU0       CPU1
   1:          9          0   IO-APIC   1-edge      i8042
  24:        100          0  PCI-MSIX-0000:01:00.0   0-edge      eth0-TxRx-0
  25:          0        200  PCI-MSIX-0000:01:00.0   1-edge      eth0-TxRx-1
  26:          0          1  PCI-MSIX-0000:02:00.0   0-edge      eth01-TxRx-0
  30:          0          1  PCI-MSIX-0000:03:00.0   1-edge      virtio3-input.0
 NMI:          0          0   Non-maskable interrupts
"""


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0-3,8\n", {0, 1, 2, 3, 8}),
        ("5", {5}),
        ("\n", set()),
        ("(null)\n", set()),
        ("0-7:1/2", {0, 2, 4, 6}),
        ("0-7:2/4", {0, 1, 4, 5}),
    ],
)
def test_cpu_lists(text: str, cpus: set[int]) -> None:
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize("text", ["a", "1-", "-1", "1..3"])
def test_what_is_no_cpu_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a list of CPUs"):
        parse_cpu_list(text)


@pytest.fixture
def roots(tmp_path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    proc, sysfs = tmp_path / "proc", tmp_path / "sys"
    proc.mkdir()
    (proc / "interrupts").write_text(PROC_INTERRUPTS)
    for number, affinity, effective in ((24, "0-1", "0"), (25, "1", "1"), (26, "0", "0"), (30, "0-1", None)):
        (proc / "irq" / str(number)).mkdir(parents=True)
        (proc / "irq" / str(number) / "smp_affinity_list").write_text(affinity + "\n")
        if effective is not None:
            (proc / "irq" / str(number) / "effective_affinity_list").write_text(effective + "\n")
    return proc, sysfs


def test_interrupts_by_the_devices_list_of_vectors(roots: tuple[pathlib.Path, pathlib.Path]) -> None:
    proc, sysfs = roots
    (sysfs / "class/net/eth7/device/msi_irqs").mkdir(parents=True)
    (sysfs / "class/net/eth7/device/msi_irqs/26").touch()
    (found,) = interrupts("eth7", proc, sysfs)
    assert found == Interrupt(number=26, name="eth01-TxRx-0", cpus=frozenset({0}), effective=frozenset({0}))


def test_interrupts_by_name_do_not_take_a_longer_name(roots: tuple[pathlib.Path, pathlib.Path]) -> None:
    found = interrupts("eth0", *roots)
    assert [(irq.number, sorted(irq.cpus), sorted(irq.effective)) for irq in found] == [
        (24, [0, 1], [0]),
        (25, [1], [1]),
    ]


def test_virtio_vectors_are_named_by_the_virtio_device(roots: tuple[pathlib.Path, pathlib.Path]) -> None:
    proc, sysfs = roots
    (sysfs / "devices/virtio3").mkdir(parents=True)
    (sysfs / "class/net/ens3").mkdir(parents=True)
    (sysfs / "class/net/ens3/device").symlink_to("../../../devices/virtio3")
    (found,) = interrupts("ens3", proc, sysfs)
    assert (found.number, found.effective) == (30, frozenset({0, 1}))


def test_a_virtual_device_has_none(roots: tuple[pathlib.Path, pathlib.Path], tmp_path: pathlib.Path) -> None:
    assert interrupts("veth0", *roots) == ()
    assert interrupts("veth0", tmp_path / "nothing", tmp_path / "nothing") == ()
