"""The loader: what it says when something is wrong, and that it leaves nothing open and prints nothing by itself."""

from __future__ import annotations

import errno
import gc
import subprocess
import sys
from pathlib import Path

import pytest

from afterburnerd.abi.layout import Cid, XdpReason
from afterburnerd.native import lib
from afterburnerd.net.xdp import OBJECT
from tests import cc

pytestmark = [pytest.mark.privileged, pytest.mark.bpf]

FRAME = bytes.fromhex("ffffffffffff0200000000010806") + bytes(46)  # an ARP request, as far as XDP looks

PROGRAM = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int wild(struct xdp_md *ctx)
{
    char *data = (char *)(long)ctx->data;
    return data[1]; /* not compared with data_end */
}
char _license[] SEC("license") = "GPL";
"""


def loaded(**sizes: int) -> lib.Bpf:
    bpf = lib.Bpf(OBJECT)
    bpf.load(sizes)
    return bpf


def compiled(folder: Path, source: str) -> Path:
    (folder / "test.bpf.c").write_text(source)
    subprocess.run(
        ["clang", "-target", "bpf", "-O2", "-g", "-idirafter", "/usr/include/x86_64-linux-gnu",
         "-c", "test.bpf.c", "-o", "test.bpf.o"],
        cwd=folder, check=True,
    )  # fmt: skip
    return folder / "test.bpf.o"


def test_a_rejected_program_comes_with_the_last_words_of_the_verifier(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bpf = lib.Bpf(compiled(tmp_path, PROGRAM))
    with pytest.raises(PermissionError) as refusal:
        bpf.load({})
    text = str(refusal.value)
    assert text.startswith("[Errno 13] loading the XDP program: Permission denied: ")
    assert "invalid access to packet" in text
    assert "processed" not in text
    assert capfd.readouterr() == ("", "")


def test_an_object_without_a_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="has no program in it: build it again"):
        lib.Bpf(compiled(tmp_path, 'char _license[] __attribute__((section("license"), used)) = "GPL";'))


def test_a_refused_load_listens_no_longer(tmp_path: Path) -> None:
    sources = [cc.ROOT / "tests/native/c/refused_load.c", cc.NATIVE / "bpf.c"]
    program = cc.program(tmp_path / "refused_load", *sources, flags=["-lbpf"], sanitizer="memory")
    done = cc.run(program, OBJECT)
    assert done.returncode == 0, done.stderr
    assert "not permitted: this process lacks CAP_BPF and CAP_NET_ADMIN" in done.stdout


MAPS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, %s); __uint(max_entries, 1); __uint(key_size, %d); __uint(value_size, %d); } %s SEC(".maps");
SEC("xdp") int pass(struct xdp_md *ctx) { return XDP_PASS; }
char _license[] SEC("license") = "GPL";
"""


@pytest.mark.parametrize(("kind", "size"), [("BPF_MAP_TYPE_PERCPU_ARRAY", 8), ("BPF_MAP_TYPE_ARRAY", 256)])
def test_counters_of_another_layout_are_refused(tmp_path: Path, kind: str, size: int) -> None:
    bpf = lib.Bpf(compiled(tmp_path, MAPS % (kind, 4, size, "counters")))
    bpf.load({})
    with pytest.raises(OSError, match=r'"counters" has \d+ bytes for each of \d+ processors, the counters take'):
        bpf.counters()


def test_a_socket_map_that_is_none_is_refused(tmp_path: Path) -> None:
    bpf = lib.Bpf(compiled(tmp_path, MAPS % ("BPF_MAP_TYPE_HASH", 8, 8, "xsks")))
    bpf.load({})
    with pytest.raises(OSError, match='"xsks" is no socket map'):
        bpf.set_xsk(0, -1)


def test_an_unknown_number_of_processors_is_told() -> None:
    code = f"""
from afterburnerd.native import lib
bpf = lib.Bpf({str(OBJECT)!r})
bpf.load({{}})
for call in (bpf.counters, lambda: bpf.map_items("counters")):
    try:
        call()
    except OSError as error:
        print(error.errno, error)
"""
    hidden = 'mount -t tmpfs none /sys/devices/system/cpu && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", hidden, "sh", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.count("how many processors there may be is not known") == 2, done.stdout + done.stderr
    assert done.stdout.startswith(f"{errno.ENOENT} ")


def test_a_frame_beyond_all_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="1048577 bytes: 1048576 at most"):
        loaded().test_run(bytes((1 << 20) + 1))


def test_a_file_that_is_no_object_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "no.bpf.o"
    path.write_text("not ELF")
    with pytest.raises(OSError, match=r"is not one .*build it again") as refusal:
        lib.Bpf(path)
    assert refusal.value.errno == errno.ENOEXEC
    assert capfd.readouterr() == ("", "")


def test_a_missing_object_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.bpf\.o: No such file or directory: build it"):
        lib.Bpf(tmp_path / "none.bpf.o")


def test_map_sizes_are_set_before_the_load() -> None:
    bpf = loaded(cids=2)
    for n in range(2):
        bpf.map_update("cids", bytes([n]) * 8, Cid().pack())
    with pytest.raises(OSError, match=r'BPF map "cids" \(2 entries\): update: .*: it is full'):
        bpf.map_update("cids", b"12345678", Cid().pack())
    bpf.map_update("cids", bytes(8), Cid(worker=1).pack())  # one that is there can still be changed


@pytest.mark.parametrize(
    ("sizes", "message"),
    [({"nosuch": 5}, 'no BPF map "nosuch"'), ({"cids": 0}, "cannot get 0 entries: it needs one at least")],
)
def test_a_size_that_cannot_be_is_refused(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(OSError, match=message):
        lib.Bpf(OBJECT).load(sizes)
    with pytest.raises(OverflowError):
        lib.Bpf(OBJECT).load({"cids": -1})


def test_calls_out_of_order_are_refused() -> None:
    bpf = lib.Bpf(OBJECT)
    for call in (lambda: bpf.attach(1, "native"), bpf.counters, lambda: bpf.test_run(FRAME)):
        with pytest.raises(OSError, match="not loaded"):
            call()
    bpf.load({})
    with pytest.raises(OSError, match="loaded already"):
        bpf.load({})
    with pytest.raises(ValueError, match="native or generic"):
        bpf.attach(1, "offload")  # type: ignore[arg-type]
    bpf.close()
    bpf.close()
    assert bpf.attached() == 0
    with pytest.raises(OSError, match="closed"):
        bpf.map_items("ports")
    with pytest.raises(OSError, match="not loaded"):
        bpf.test_run(FRAME)


def test_keys_and_values_of_a_wrong_length_never_reach_the_kernel() -> None:
    bpf = loaded()
    with pytest.raises(ValueError, match='BPF map "cids": a key has 8 bytes, not 7'):
        bpf.map_update("cids", bytes(7), Cid().pack())
    with pytest.raises(ValueError, match='BPF map "cids": a value has 8 bytes, not 9'):
        bpf.map_update("cids", bytes(8), bytes(9))
    for call in (bpf.map_lookup, bpf.map_delete):
        with pytest.raises(ValueError, match="a key has 8 bytes, not 0"):
            call("cids", b"")


def test_maps_hold_what_was_put_into_them() -> None:
    bpf = loaded(cids=1000)
    wanted = {n.to_bytes(8, "big"): Cid(worker=n % 7, queue=n % 3, flags=n).pack() for n in range(1000)}
    for key, value in wanted.items():
        bpf.map_update("cids", key, value)
    assert bpf.map_items("cids") == wanted
    assert bpf.map_lookup("cids", bytes(8)) == wanted[bytes(8)]
    assert bpf.map_delete("cids", bytes(8))
    assert not bpf.map_delete("cids", bytes(8))
    assert bpf.map_lookup("cids", bytes(8)) is None
    assert len(bpf.map_items("cids")) == 999
    assert loaded().map_items("cids") == {}


def test_counters_are_summed_over_the_processors() -> None:
    bpf = loaded()
    bpf.test_run(FRAME, repeat=100)
    counts = dict(zip(XdpReason, bpf.counters(), strict=True))
    assert counts.pop(XdpReason.PASS_MULTICAST) == (100, 100 * len(FRAME))
    assert set(counts.values()) == {(0, 0)}


def test_a_run_that_the_kernel_refuses_says_so() -> None:
    bpf = loaded()
    with pytest.raises(OSError, match=r"BPF_PROG_TEST_RUN, 13 bytes"):
        bpf.test_run(FRAME[:13])
    with pytest.raises(OSError, match="interface index 99999"):
        bpf.test_run(FRAME, ifindex=99999)


def test_nothing_stays_open() -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    loaded().close()
    gc.collect()
    before = descriptors()
    for _ in range(5):
        loaded().close()
        loaded()  # given back when collected
        with pytest.raises(OSError):
            loaded().attach(1 << 30, "native")
        with pytest.raises(OSError):
            lib.Bpf(OBJECT).load({"cids": 1 << 31})  # more than the kernel has
    gc.collect()
    assert descriptors() == before
