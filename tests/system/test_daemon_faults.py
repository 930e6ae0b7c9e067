"""What the daemon does when something is taken from it: processes, the interface, privileges, memory."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from afterburnerd.abi.stats import StatsReader
from afterburnerd.supervisor import hugepages as memory
from tests import hugepages, netns
from tests.net import frames
from tests.system.daemonrig import PORT, RAW, ROOT, Daemon, alive

pytestmark = pytest.mark.privileged


@pytest.fixture
def rig() -> Iterator[netns.Pair]:
    with netns.pair() as pair:
        yield pair


# --- processes -------------------------------------------------------------------------------------------------------


@pytest.mark.bpf
def test_a_killed_data_plane_is_noticed_and_replaced_while_the_program_stays(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path) as daemon:
        daemon.receives()
        program, pid = daemon.attached(), daemon.plane_pid()
        os.kill(pid, signal.SIGKILL)
        daemon.wait(lambda: daemon.plane_pid() not in (0, pid) and daemon.state() == "serving", "another data plane")
        assert daemon.attached() == program
        daemon.receives()
        assert daemon.value("daemon", "restart_killed") == 1
        # From noticing to serving, as the daemon measured it: the promise is one second.
        assert daemon.value("daemon", "recovery_ns") < 1_000_000_000
        assert "killed by SIGKILL" in daemon.status().workers[0].last_failure
        assert f"worker 0 (process {pid}) died: killed by SIGKILL" in daemon.log()
        daemon.assert_frames_add_up()


@pytest.mark.bpf
def test_counters_go_on_across_a_restart_of_the_data_plane(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path) as daemon:
        daemon.receives(7)
        os.kill(daemon.plane_pid(), signal.SIGKILL)
        daemon.wait(lambda: daemon.value("daemon", "restart_killed") == 1 and daemon.state() == "serving", "recovery")
        daemon.receives(3)
        assert daemon.rule("tpu", "packets") == 10


@pytest.mark.bpf
def test_a_hung_data_plane_is_killed_after_the_configured_time(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path, rest="[watch]\nhang_ms = 300") as daemon:
        pid = daemon.plane_pid()
        os.kill(pid, signal.SIGSTOP)
        daemon.wait(lambda: daemon.value("daemon", "restart_hung") == 1 and daemon.state() == "serving", "recovery")
        assert not alive(pid)
        assert "its loop stood still for" in daemon.status().workers[0].last_failure
        daemon.receives()


@pytest.mark.bpf
def test_an_order_to_a_hung_data_plane_does_not_put_its_end_off(rig: netns.Pair, tmp_path: Path) -> None:
    """It never comes to the order, which an address that comes is; the order's own limit of 5 s is not waited for."""
    with Daemon(rig, tmp_path) as daemon:
        pid = daemon.plane_pid()
        os.kill(pid, signal.SIGSTOP)
        netns.run("ip", "-n", rig.near.name, "addr", "add", "10.198.0.1/24", "dev", rig.near.ifname)
        daemon.wait(lambda: daemon.plane_pid() not in (0, pid), "another data plane")
        daemon.wait(lambda: daemon.state() == "serving", "serving")
        assert daemon.value("daemon", "restart_hung") == 1, daemon.log()
        assert "did not answer within" not in daemon.log()
        daemon.receives()


@pytest.mark.bpf
def test_packets_are_dropped_and_counted_while_the_worker_is_down(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path, rest="[watch]\nbackoff_min_ms = 3000\nbackoff_max_ms = 3000") as daemon:
        for _ in range(2):  # the second failure in a row makes it pause
            os.kill(daemon.plane_pid(), signal.SIGKILL)
            daemon.wait(lambda: daemon.state() == "recovering" or daemon.value("daemon", "restart_killed") == 1, "it")
            daemon.wait(lambda: daemon.value("daemon", "restart_killed") == 2 or daemon.state() == "serving", "it")
        daemon.wait(lambda: not daemon.queues(), "the queue to be closed")
        daemon.send(*[b"x"] * 20)
        daemon.wait(lambda: daemon.xdp("worker_down") == 20, "20 counted drops")
        assert daemon.attached()
        daemon.wait(lambda: daemon.state() == "serving", "recovery")
        daemon.receives()


@pytest.mark.bpf
def test_repeated_failure_backs_off_and_says_why(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path, rest="[watch]\nbackoff_min_ms = 400\nbackoff_max_ms = 400") as daemon:
        for round_ in range(3):
            os.kill(daemon.plane_pid(), signal.SIGKILL)
            count = round_ + 1
            daemon.wait(
                lambda count=count: daemon.value("daemon", "restart_killed") == count and daemon.state() == "serving",
                f"restart {count}",
            )
        assert daemon.value("daemon", "recovery_ns") >= 400_000_000  # the third waited; the first did not
        assert daemon.log().count("died: killed by SIGKILL") == 3


def test_sigkill_of_the_supervisor_ends_the_service_and_leaves_a_working_network(
    rig: netns.Pair, tmp_path: Path
) -> None:
    with Daemon(rig, tmp_path) as daemon:
        daemon.receives()
        plane = daemon.plane_pid()
        daemon.kill()
        for _ in range(500):
            if not alive(plane) and not daemon.attached():
                break
            time.sleep(0.01)
        assert not alive(plane), "the data plane outlived its parent"
        assert not daemon.attached(), "the program is still attached"
        # The port is the host's again.
        with rig.near.entered():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.bind((rig.near.ipv4, PORT))
            sock.settimeout(5)
            daemon.send(b"to the host")
            assert sock.recv(100) == b"to the host"
        with StatsReader.open(daemon.name) as reader:
            snapshot = reader.read()
        assert snapshot.stale
        assert sum(r.value("packets") for r in snapshot.rows("rule")) == 5  # readable with both processes dead
        daemon.start()  # and recognised as stale
        daemon.receives()
        assert "replaced what a dead daemon left" in daemon.log()


def test_stop_leaves_nothing_behind(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path) as daemon:
        plane = daemon.plane_pid()
        assert daemon.stop() == 0
        assert not alive(plane)
        assert not daemon.attached()
        assert not list(Path("/dev/shm").glob(f"{daemon.name}.*"))
        assert not (daemon.directory / "run" / "control.sock").exists()


# --- somebody else ---------------------------------------------------------------------------------------------------


def test_a_second_daemon_on_the_interface_refuses_and_does_not_disturb_the_first(
    rig: netns.Pair, tmp_path: Path
) -> None:
    with Daemon(rig, tmp_path) as first, Daemon(rig, tmp_path, start=False) as second:
        program = first.attached()
        code, said = second.refused()
        assert code == 69
        assert rig.near.ifname in said
        assert "Traceback" not in said
        assert first.attached() == program
        first.receives()
        assert not list(Path("/dev/shm").glob(f"{second.name}.*"))


def test_a_second_daemon_of_the_same_name_refuses(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path) as first, Daemon(rig, tmp_path, start=False) as second:
        second.config.write_text(second.config.read_text().replace(f'name = "{second.name}"', f'name = "{first.name}"'))
        code, said = second.refused()
        assert code == 69
        assert "is running already" in said
        first.receives()


# --- the interface ---------------------------------------------------------------------------------------------------


@pytest.mark.bpf
def test_down_and_up(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path) as daemon:
        rig.near.link("down")
        daemon.wait(lambda: daemon.state() == "degraded", "the state to say so")
        assert "is down" in daemon.status().detail
        rig.near.link("up")
        daemon.wait(lambda: daemon.state() == "serving", "the interface to be served again")
        daemon.wait(lambda: daemon.value("daemon", "rebinds") >= 1, "its queue to be bound anew")
        _neighbours(rig)
        daemon.recovers()
        daemon.assert_frames_add_up()


@pytest.mark.bpf
def test_mtu_change(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path) as daemon:
        rig.near.link("mtu", "1400")
        daemon.wait(lambda: daemon.value("daemon", "interface_mtu") == 1400, "the MTU to be followed")
        daemon.wait(lambda: daemon.value("daemon", "rebinds") >= 1 and daemon.state() == "serving", "a rebind")
        daemon.recovers()
        daemon.assert_frames_add_up()


@pytest.mark.bpf
def test_a_worker_that_dies_while_it_is_bound_anew_is_replaced_once(tmp_path: Path) -> None:
    """Its keeper notices its end, and who gave it an order does; the other worker is not concerned."""
    two = 'idle = "sleep"\nqueues = [0]\n[[worker]]\nidle = "sleep"\nqueues = [1]'
    with netns.pair(queues=2) as rig, Daemon(rig, tmp_path, worker=two, rest="[watch]\nhang_ms = 60000") as daemon:
        dies, stays = daemon.plane_pid(0), daemon.plane_pid(1)
        os.kill(dies, signal.SIGSTOP)
        rig.near.link("mtu", "1400")
        daemon.wait(lambda: "MTU 1500 -> 1400" in daemon.log(), "the change to be followed")
        time.sleep(0.3)  # an order is out now, and is not answered
        os.kill(dies, signal.SIGKILL)
        daemon.wait(lambda: "could not be bound again" in daemon.log(), "the order to fail")
        daemon.wait(lambda: daemon.state() == "serving" and daemon.plane_pid(0) not in (0, dies), "both to serve")
        assert "could not be bound again: the data plane is gone: killed by SIGKILL" in daemon.log()
        time.sleep(0.5)  # several looks of the keeper at what it is asked for
        assert (daemon.value("daemon", "restart_killed"), daemon.value("daemon", "restart_config")) == (1, 0)
        assert daemon.plane_pid(1) == stays
        assert len(daemon.queues()) == 2
        daemon.recovers()
        daemon.assert_frames_add_up()


@pytest.mark.bpf
def test_more_queues_are_served_when_the_interface_gets_them(tmp_path: Path) -> None:
    with netns.pair(queues=4) as rig:
        rig.near.ethtool("-L", "rx", "1", "tx", "4")
        with Daemon(rig, tmp_path) as daemon:
            assert len(daemon.queues()) == 1
            rig.near.ethtool("-L", "rx", "4", "tx", "4")
            daemon.wait(lambda: len(daemon.queues()) == 4, "four queues")
            daemon.wait(lambda: daemon.state() == "serving", "serving")
            daemon.recovers()
            daemon.assert_frames_add_up()
            assert daemon.status().workers[0].queues == (0, 1, 2, 3)


@pytest.mark.bpf
def test_fewer_queues_are_to_be_had_once_a_reload_has_let_go_of_the_rest(tmp_path: Path) -> None:
    """As docs/operations.md says."""
    with netns.pair(queues=4) as rig, Daemon(rig, tmp_path) as daemon:
        rig.far.ethtool("-L", "tx", "2", "rx", "4")  # veth wants no more senders than receivers
        refused = subprocess.run(
            ["ip", "netns", "exec", rig.near.name, "ethtool", "-L", rig.near.ifname, "rx", "2", "tx", "2"],
            capture_output=True,
            text=True,
        )
        assert refused.returncode != 0
        assert len(daemon.queues()) == 4 and daemon.state() == "serving"
        daemon.write_config(interface="queues = [0, 1]")
        assert daemon.reload().ok
        rig.near.ethtool("-L", "rx", "2", "tx", "2")
        daemon.wait(lambda: daemon.value("daemon", "interface_queues") == 2, "the change to be noticed")
        daemon.write_config(interface="")
        assert daemon.reload().ok
        daemon.wait(lambda: daemon.state() == "serving" and len(daemon.queues()) == 2, "both queues to be served")
        daemon.recovers()
        daemon.assert_frames_add_up()


@pytest.mark.bpf
def test_an_interface_that_goes_and_comes_back_is_served_again(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path) as daemon:
        daemon.receives()
        netns.run("ip", "-n", rig.near.name, "link", "del", rig.near.ifname)
        daemon.wait(lambda: daemon.state() == "recovering", "the state to say so")
        netns.run(
            "ip", "-n", rig.near.name, "link", "add", rig.near.ifname, "type", "veth",
            "peer", "name", rig.far.ifname, "netns", rig.far.name,
        )  # fmt: skip
        for end in (rig.near, rig.far):
            netns.run("ip", "-n", end.name, "addr", "add", f"{end.ipv4}/24", "dev", end.ifname)
            end.link("up")
        daemon.wait(lambda: daemon.state() == "serving" and daemon.attached() > 0, "it to be served")
        daemon.recovers()
        daemon.assert_frames_add_up()


@pytest.mark.bpf
def test_a_program_that_somebody_detaches_is_attached_again(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path) as daemon:
        program = daemon.attached()
        detach(rig, program)
        daemon.wait(lambda: daemon.attached() == program, "the program to be attached again")
        daemon.recovers()


def detach(rig: netns.Pair, program: int) -> None:
    links = json.loads(rig.near.run("bpftool", "-j", "link", "show"))
    link = next(entry["id"] for entry in links if entry.get("prog_id") == program)
    rig.near.run("bpftool", "link", "detach", "id", str(link))


@pytest.mark.bpf
def test_a_place_that_somebody_else_took_is_told_and_taken_back_when_it_is_free(
    rig: netns.Pair, tmp_path: Path
) -> None:
    with Daemon(rig, tmp_path) as daemon:
        os.kill(daemon.pid, signal.SIGSTOP)
        detach(rig, daemon.attached())
        rig.near.link("xdp", "obj", str(ROOT / "afterburnerd/bpf/afterburner.bpf.o"), "sec", "xdp.frags")
        os.kill(daemon.pid, signal.SIGCONT)
        daemon.wait(lambda: daemon.state() == "degraded", "the state to say so")
        assert any("not attached" in notice.text for notice in daemon.status().notices)
        rig.near.link("xdp", "off")
        daemon.wait(lambda: daemon.state() == "serving", "its place again")
        daemon.recovers()


@pytest.mark.bpf
def test_a_queue_that_another_socket_holds_is_refused(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path) as first, Daemon(rig, tmp_path, start=False) as second:
        os.kill(first.pid, signal.SIGSTOP)  # it would take its place back at once
        detach(rig, first.attached())
        code, said = second.refused()
        os.kill(first.pid, signal.SIGCONT)
        assert code == 69
        assert "another AF_XDP socket holds this queue" in said
        first.wait(lambda: first.attached() > 0, "its place again")
        first.recovers()


def test_addresses_that_come_later_are_captured(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path) as daemon:
        netns.run("ip", "-n", rig.near.name, "addr", "add", "10.77.0.77/24", "dev", rig.near.ifname)
        netns.run("ip", "-n", rig.near.name, "addr", "add", "fd77::77/64", "dev", rig.near.ifname, "nodad")
        daemon.wait(lambda: "fd77::77" in daemon.status().interface.addresses, "the address to be known")
        time.sleep(0.2)
        for address in ("10.77.0.77", "fd77::77", rig.near.ipv6):
            before = daemon.rule("tpu", "packets")
            daemon.send(b"x", address=address)
            daemon.wait(lambda before=before: daemon.rule("tpu", "packets") == before + 1, f"a datagram to {address}")


@pytest.mark.bpf
def test_jumbo_frames_arrive_whole(tmp_path: Path) -> None:
    with netns.pair(mtu=9000) as rig, Daemon(rig, tmp_path, rest="[records]\nslot_bytes = 16384") as daemon:
        payload = bytes(range(256)) * 34
        before = daemon.rule("tpu", "bytes")
        daemon.send(payload, b"small", payload)
        daemon.wait(lambda: daemon.rule("tpu", "packets") == 3, "three datagrams")
        assert daemon.rule("tpu", "bytes") - before == 2 * len(payload) + 5
        assert daemon.status().interface.mode in ("copy", "zero-copy")
        daemon.assert_frames_add_up()


def test_jumbo_frames_are_refused_with_the_reason_where_they_are_off(tmp_path: Path) -> None:
    with netns.pair(mtu=9000) as rig:
        with Daemon(rig, tmp_path, interface='jumbo = "off"\nmode = "copy"', start=False) as daemon:
            code, said = daemon.refused()
        assert code == 69
        assert "MTU of 9000" in said
        assert "jumbo" in said


@pytest.mark.bpf
def test_generic_mode_serves(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path, interface='mode = "generic"') as daemon:
        daemon.receives()
        assert daemon.status().interface.mode == "generic"
        assert daemon.status().interface.xdp == "generic"
        daemon.assert_frames_add_up()


@pytest.mark.bpf
def test_zero_copy_where_the_driver_cannot_is_refused_with_the_reason(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path, interface='mode = "zero-copy"', start=False) as daemon:
        code, said = daemon.refused()
    assert code == 69
    assert "zero-copy" in said
    assert "veth" in said or "driver cannot" in said


# --- privileges and memory -------------------------------------------------------------------------------------------


def without(*capabilities: str) -> tuple[str, ...]:
    drop = ",".join(f"-{c}" for c in capabilities)
    return ("setpriv", f"--bounding-set={drop}", f"--inh-caps={drop}")


@pytest.mark.parametrize(
    ("capability", "named"), [("net_raw", "CAP_NET_RAW"), ("bpf", "CAP_BPF"), ("net_admin", "CAP_NET_ADMIN")]
)
def test_a_missing_capability_is_named_and_sockets_serve_instead(
    rig: netns.Pair, tmp_path: Path, capability: str, named: str
) -> None:
    # CAP_SYS_ADMIN stands in for CAP_BPF in the kernel: without it the missing one is really missing.
    prefix = without(capability, "sys_admin")
    with Daemon(rig, tmp_path, interface='mode = "copy"', prefix=prefix, start=False) as strict:
        code, said = strict.refused()
        assert code == 77, said
        assert named in said
    with Daemon(rig, tmp_path, prefix=prefix) as daemon:
        assert daemon.state() == "degraded"
        assert daemon.status().interface.mode == "socket"
        assert any(named in notice.text for notice in daemon.status().notices)
        daemon.receives()


def within_reach() -> tuple[str, ...]:
    """Begins a command that an ordinary user is to run out of this checkout. Where the checkout lies in a closed directory
    (/root, say), the command gets mounts of its own, in which the way there is open."""
    closed = [parent for parent in reversed(ROOT.parents) if not parent.stat().st_mode & stat.S_IXOTH]
    if not closed:
        return ()
    # -c: "." is the checkout as it was found, whatever its path leads to by now
    open_up = 'cd "$1"; mount -t tmpfs -o mode=755 open "$2"; mkdir -p "$1"; mount -c --bind . "$1"; shift 2; exec "$@"'
    return ("unshare", "--mount", "sh", "-ec", open_up, "sh", str(ROOT), str(closed[0]))


def test_an_ordinary_user_is_served_by_sockets(rig: netns.Pair, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.owner() == "root" and str(parent).startswith("/tmp/pytest"):
            parent.chmod(0o755)
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")
    with Daemon(rig, tmp_path, interface='mode = "socket"', prefix=(*within_reach(), *user), start=False) as daemon:
        daemon.directory.chmod(0o777)
        (daemon.directory / "log").touch()
        daemon.start()
        assert daemon.state() == "serving"
        daemon.receives()


@pytest.mark.bpf
def test_no_lockable_memory_is_refused_by_name_or_served_by_sockets(rig: netns.Pair, tmp_path: Path) -> None:
    prefix = ("prlimit", "--memlock=0:0", *without("ipc_lock", "sys_resource"))
    with Daemon(rig, tmp_path, interface='mode = "copy"', prefix=prefix, start=False) as daemon:
        code, said = daemon.refused()
        assert code == 69, said
        assert "LimitMEMLOCK" in said
    with Daemon(rig, tmp_path, prefix=prefix) as daemon:
        assert daemon.status().interface.mode == "socket"
        daemon.receives()


@pytest.mark.bpf
def test_required_huge_pages_that_are_not_there_are_refused_with_the_command(rig: netns.Pair, tmp_path: Path) -> None:
    memory = 'huge_pages = "require"\nframes = 1048576'  # 4 GiB: not reserved on any machine that runs this
    with Daemon(rig, tmp_path, interface='mode = "copy"', memory=memory, start=False) as daemon:
        code, said = daemon.refused()
    assert code == 69
    assert "each queue needs 2048 of them" in said and "vm.nr_hugepages" in said


@pytest.mark.bpf
def test_a_start_that_takes_too_long_is_refused_and_not_taken_for_a_missing_mode(
    rig: netns.Pair, tmp_path: Path
) -> None:
    with Daemon(rig, tmp_path, rest="[watch]\nstart_ms = 500", start=False) as daemon:
        daemon.launch()
        stopped = 0
        deadline = time.monotonic() + 20
        while not stopped and time.monotonic() < deadline:  # while its interpreter starts: it can do nothing yet
            for child in Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split():
                if b"afterburnerd.dataplane" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(int(child), signal.SIGSTOP)
                    stopped = int(child)
        code, said = daemon.process.wait(20) if daemon.process else -1, daemon.log()
        assert stopped and not alive(stopped)
        assert daemon.attached() == 0
    assert code == 69
    assert "did not answer within 0.5 s; a larger watch.start_ms gives it more time" in said
    assert "instead" not in said  # of the better mode


@pytest.mark.bpf
def test_memory_that_lies_partly_in_huge_pages_is_told_with_what_is_missing(tmp_path: Path) -> None:
    with netns.pair(queues=2) as rig:

        def test(pool: hugepages.Pool) -> None:
            free = memory.reserved()[1]
            pool.add(6 - free)  # 4 for the first queue, 2 of 4 for the second
            pool.check(ours=0)
            with Daemon(rig, tmp_path) as daemon:
                ours = hugepages.used_by(daemon.plane_pid())
                pool.check(ours)
                notices = daemon.status().notices
                pool.check(ours)
                assert ours == 4
                notice = next(n for n in notices if "normal pages" in n.text)
                assert notice.text.startswith("packet memory of 1 queue lies in normal pages")
                assert notice.hint.startswith(f"sysctl vm.nr_hugepages={pool.total + 2},")
                assert daemon.value("worker", "huge_pages") == 0
                pool.add(2)
                daemon.write_config(memory="huge_pages = 'require'")
                result = daemon.reload()
                pool.check(hugepages.used_by(daemon.plane_pid()))
                assert result.ok
                assert hugepages.used_by(daemon.plane_pid()) == 8
                assert not daemon.status().notices
                assert daemon.value("worker", "huge_pages") == 1

        hugepages.undisturbed(test)


def test_a_captured_port_that_is_taken_is_refused_in_socket_mode(rig: netns.Pair, tmp_path: Path) -> None:
    with rig.near.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.bind(("0.0.0.0", PORT))
        with Daemon(rig, tmp_path, interface='mode = "socket"', start=False) as daemon:
            code, said = daemon.refused()
    assert code == 69
    assert f"UDP port {PORT}" in said
    assert "in use" in said


def test_an_interface_that_is_not_there_is_refused(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path, start=False) as daemon:
        daemon.config.write_text(daemon.config.read_text().replace(rig.near.ifname, "nosuch0"))
        code, said = daemon.refused()
    assert code == 69
    assert "nosuch0" in said
    assert "ip -br link" in said


# --- shapes of service -----------------------------------------------------------------------------------------------


@pytest.mark.bpf
def test_several_workers_share_the_queues(tmp_path: Path) -> None:
    workers = 'idle = "sleep"\nnice = 0\nqueues = [0, 2]\n[[worker]]\nidle = "sleep"\nnice = 0\nqueues = [1, 3]'
    with netns.pair(queues=4) as rig:
        rig.near.ethtool("-L", "rx", "4", "tx", "4")
        with Daemon(rig, tmp_path, worker=workers) as daemon:
            assert [w.queues for w in daemon.status().workers] == [(0, 2), (1, 3)]
            assert len(daemon.queues()) == 4
            daemon.receives(40)
            pids = {w.pid for w in daemon.status().workers}
            assert len(pids) == 2
            victim = daemon.plane_pid(1)
            os.kill(victim, signal.SIGKILL)
            daemon.wait(lambda: daemon.plane_pid(1) not in (0, victim) and daemon.state() == "serving", "recovery")
            assert daemon.plane_pid(0) in pids  # the other one was left alone
            daemon.receives(40)
            daemon.assert_frames_add_up()


@pytest.mark.bpf
def test_a_queue_that_no_worker_has_is_told(tmp_path: Path) -> None:
    with netns.pair(queues=3) as rig, Daemon(rig, tmp_path, worker='queues = [1]\nidle = "sleep"\nnice = 0') as daemon:
        assert daemon.state() == "degraded"
        assert f"no worker has queues 0, 2 of {rig.near.ifname}" in daemon.status().detail
        daemon.write_config(interface="queues = [1]")
        assert daemon.reload().ok
        assert daemon.state() == "serving"


MANY = "".join(f'[[capture]]\nname = "r{n}"\nport = {PORT + n}\ndecoder = "raw"\n' for n in range(1, 64)) + RAW
ROOM = 4096 // 64  # addresses that 64 rules leave room for; the interface has two already, and a link-local one


@pytest.mark.bpf
def test_more_addresses_than_there_is_room_for_disturb_nothing_and_are_told(rig: netns.Pair, tmp_path: Path) -> None:
    def addresses(verb: str, numbers: range) -> None:
        lines = "".join(f"addr {verb} 10.80.0.{n}/32 dev {rig.near.ifname}\n" for n in numbers)
        batch = tmp_path / "batch"
        batch.write_text(lines)
        netns.run("ip", "-n", rig.near.name, "-batch", str(batch))

    addresses("add", range(1, ROOM - 3))
    with Daemon(rig, tmp_path, captures=MANY) as daemon:
        daemon.receives()
        pid = daemon.plane_pid()
        addresses("add", range(100, 120))
        daemon.wait(lambda: daemon.state() == "degraded", "the state to say so")
        assert "are not captured: the XDP program has room for 4096" in daemon.status().detail
        # A reload must not capture less than its file says.
        daemon.write_config(captures=MANY.replace('name = "r1"', 'name = "s1"'))
        refused = daemon.reload()
        assert not refused.ok and "the XDP program has room for 4096" in refused.errors[0]
        addresses("del", range(100, 120))
        daemon.wait(lambda: daemon.state() == "serving", "the state to follow")
        daemon.receives()
        assert daemon.plane_pid() == pid
        assert daemon.reload().ok
        addresses("add", range(100, 120))
        daemon.wait(lambda: daemon.state() == "degraded", "the state to say so")
        assert daemon.stop() == 0
        code, said = daemon.refused()
    assert code == 78
    assert 'name addresses instead of "any"' in said


@pytest.mark.bpf
def test_the_data_plane_becomes_the_configured_user(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path, user="nobody") as daemon:
        status = Path(f"/proc/{daemon.plane_pid()}/status").read_text()
        assert "Uid:\t65534\t65534\t65534\t65534" in status
        daemon.receives()
        os.kill(daemon.plane_pid(), signal.SIGKILL)
        daemon.wait(lambda: daemon.value("daemon", "restart_killed") == 1 and daemon.state() == "serving", "recovery")
        daemon.receives()


def test_a_user_who_does_not_exist_is_refused(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path, user="nosuchuser", start=False) as daemon:
        code, said = daemon.refused()
    assert code == 78
    assert "nosuchuser" in said


@pytest.mark.bpf
def test_tagged_frames_are_captured_by_a_rule_with_their_vlan(rig: netns.Pair, tmp_path: Path) -> None:
    captures = RAW + f'\n[[capture]]\nname = "tagged"\nport = {PORT}\nvlan = [100, 7]\ndecoder = "raw"\n'
    with Daemon(rig, tmp_path, captures) as daemon:
        with rig.far.entered():
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with raw:
            raw.bind((rig.far.ifname, 0))
            near, far = IPv4Address(rig.near.ipv4), IPv4Address(rig.far.ipv4)
            inner = frames.ipv4(frames.udp(b"in a tunnel of tags", far, near, PORT), far, near)
            for tags in ((100, 7), (100, 8), (7, 100)):
                frame = frames.ethernet(inner, 0x0800, tags, destination=rig.near.mac)
                raw.send(frame)
        daemon.wait(lambda: daemon.rule("tagged", "packets") == 1, "the frame with the right tags")
        daemon.receives()
        assert daemon.rule("tagged", "packets") == 1


@pytest.mark.bpf
def test_nothing_leaks_when_queues_are_bound_again_and_again(rig: netns.Pair, tmp_path: Path) -> None:
    with Daemon(rig, tmp_path) as daemon:
        pid = daemon.plane_pid()

        def holdings() -> tuple[int, int, int]:
            """Descriptors and mappings of the data plane, descriptors of the supervisor."""
            maps = Path(f"/proc/{pid}/maps").read_text().count("\n")
            descriptors = [len(list(Path(f"/proc/{p}/fd").iterdir())) for p in (pid, daemon.pid)]
            return descriptors[0], maps, descriptors[1]

        def rebind(mtu: int) -> None:
            before = daemon.value("daemon", "rebinds")
            rig.near.link("mtu", str(mtu))
            daemon.wait(lambda: daemon.value("daemon", "rebinds") > before and daemon.state() == "serving", "a rebind")

        for mtu in (1400, 1300):  # what is made once, lazily, is made now
            rebind(mtu)
        daemon.recovers()
        time.sleep(0.3)
        before = holdings()
        for step in range(12):
            rebind(1400 + step)
        daemon.recovers()
        assert daemon.plane_pid() == pid
        # A connection of a moment ago may still be open: what leaks would not go away.
        daemon.wait(lambda: holdings() == before, f"{before} again, now {holdings()}")
        daemon.assert_frames_add_up()


def _neighbours(rig: netns.Pair) -> None:
    """Taking a link down drops even permanent neighbours of it."""
    for here, there in ((rig.near, rig.far), (rig.far, rig.near)):
        netns.run("ip", "-n", here.name, "neigh", "replace", there.ipv4, "lladdr", there.mac.hex(":"),
                  "dev", here.ifname, "nud", "permanent")  # fmt: skip
