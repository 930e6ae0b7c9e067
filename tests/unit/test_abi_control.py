"""The control socket: messages survive the way, and every way of not getting an answer has its own error."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from afterburnerd.abi import control
from afterburnerd.abi.control import ControlClient, ControlError
from afterburnerd.abi.layout import DaemonState


@contextmanager
def daemon(run_dir: Path, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """Listen on a control socket and hand the first connection to `serve`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(run_dir / control.SOCKET_NAME))
        listener.listen(1)

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        yield
        thread.join(10)
        assert not thread.is_alive()


def answers(*replies: bytes) -> Callable[[socket.socket], None]:
    """Answer each request line with the next reply, then wait for the client to hang up."""

    def serve(connection: socket.socket) -> None:
        file = connection.makefile("rb")
        for reply in replies:
            control.decode_request(file.readline())
            connection.sendall(reply)
        file.read()

    return serve


MESSAGES = [
    control.PingRequest(),
    control.StatusRequest(),
    control.ReloadRequest(),
    control.ConfigRequest(),
]
REPLIES = [
    control.Pong(version="1", pid=2),
    control.Status(
        state="serving",
        interface=control.InterfaceStatus(name="eth0", addresses=("10.0.0.1",)),
        workers=(control.WorkerStatus(queues=(0, 1)),),
        notices=(control.Notice(text="no huge pages", hint="sysctl vm.nr_hugepages=8", degraded=True),),
    ),
    control.ReloadResult(ok=True, changes=(control.ConfigChange(path="memory.ring", old=1, new=[2], reload="live"),)),
    control.Failure(message="no", exit_code=78),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_requests_survive_the_way(message: control.Request) -> None:
    line = control.encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert control.decode_request(line) == message


@pytest.mark.parametrize("reply", REPLIES)
def test_replies_survive_the_way(reply: control.Reply) -> None:
    assert control.decode_reply(control.encode(reply)) == reply


def test_every_state_of_the_daemon_can_be_told() -> None:
    """Also the last one, to who asks while it ends."""
    assert {state.name.lower() for state in DaemonState} == set(get_args(control.DaemonState))


def test_the_tag_is_the_name() -> None:
    assert control.encode(control.ReloadRequest()) == b'{"type":"reload-request"}\n'


@pytest.mark.parametrize("kind", [control.Pong, control.Status, control.ReloadResult, control.RunningConfig])
def test_a_reply_of_an_older_or_newer_daemon_is_understood(kind: type[msgspec.Struct]) -> None:
    tag = kind.__struct_config__.tag
    reply = control.decode_reply(msgspec.json.encode({"type": tag, "of_the_future": 1}))
    assert isinstance(reply, kind)


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b"hello", b'{"type":"format-disk"}', b"\xff"])
def test_nonsense_is_refused(line: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        control.decode_request(line)


def test_several_requests_on_one_connection(tmp_path: Path) -> None:
    pong = control.Pong(version="9", pid=7)
    result = control.ReloadResult(ok=True, generation=3)
    with daemon(tmp_path, answers(control.encode(pong), control.encode(result))), ControlClient(tmp_path) as client:
        assert client.ping() == pong
        assert client.reload() == result


def test_an_answer_in_pieces(tmp_path: Path) -> None:
    line = control.encode(control.Status(state="serving", detail="x" * 200_000))

    def serve(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(line[:10])
        connection.sendall(line[10:])
        connection.recv(1000)

    with daemon(tmp_path, serve), ControlClient(tmp_path) as client:
        assert len(client.status().detail) == 200_000


def test_the_running_configuration_is_carried_as_it_is(tmp_path: Path) -> None:
    reply = control.RunningConfig(generation=2, config=msgspec.Raw(b'{"memory":{"ring":64}}'))
    with daemon(tmp_path, answers(control.encode(reply))), ControlClient(tmp_path) as client:
        assert msgspec.json.decode(client.config().config) == {"memory": {"ring": 64}}


def failure(run_dir: Path, timeout: float = 5.0) -> ControlError:
    with pytest.raises(ControlError) as caught, ControlClient(run_dir, timeout) as client:
        client.ping()
    return caught.value


def test_no_socket_is_not_running(tmp_path: Path) -> None:
    error = failure(tmp_path)
    assert error.exit_code == 3
    assert "systemctl start afterburner" in str(error)
    assert str(tmp_path / "control.sock") in str(error)


def test_a_socket_that_nobody_listens_on_is_not_running(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "control.sock"))
    assert failure(tmp_path).exit_code == 3


def test_a_forbidden_socket_is_a_matter_of_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(socket.socket):
        def connect(self, address: object) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "socket", Refusing)  # root, who runs the tests, may connect everywhere
    error = failure(tmp_path)
    assert error.exit_code == 77
    assert str(error).startswith("permission denied: ")


def test_silence_is_unreachable(tmp_path: Path) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.recv(1000)

    with daemon(tmp_path, serve):
        error = failure(tmp_path, timeout=0.05)
    assert error.exit_code == 69
    assert "did not answer" in str(error)


def test_a_trickle_does_not_stretch_the_deadline(tmp_path: Path) -> None:
    ticks = itertools.count()

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client hangs up at its deadline
            while True:
                connection.sendall(b" ")

    with (
        daemon(tmp_path, serve),
        pytest.raises(ControlError, match="did not answer"),
        ControlClient(tmp_path, 5.0, clock=lambda: float(next(ticks))) as client,
    ):
        client.ping()


def test_hanging_up_is_unreachable(tmp_path: Path) -> None:
    with daemon(tmp_path, lambda c: None):
        error = failure(tmp_path)
    assert error.exit_code == 69
    assert "broke" in str(error)


@pytest.mark.parametrize("line", [b"what?\n", b'{"type":"nobody-knows"}\n', control.encode(control.Status())])
def test_an_answer_that_makes_no_sense_is_unreachable(tmp_path: Path, line: bytes) -> None:
    with daemon(tmp_path, answers(line)):
        error = failure(tmp_path)
    assert error.exit_code == 69
    assert "same version" in str(error)


def test_an_endless_answer_is_cut_off(tmp_path: Path) -> None:
    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for _ in range(100):
                connection.sendall(b"x" * 65_536)

    with daemon(tmp_path, serve):
        error = failure(tmp_path)
    assert error.exit_code == 69
    assert "longer than" in str(error)


def test_a_failure_brings_its_own_exit_code(tmp_path: Path) -> None:
    reply = control.Failure(message="the file is gone", exit_code=78)
    with daemon(tmp_path, answers(control.encode(reply))):
        error = failure(tmp_path)
    assert (str(error), error.exit_code) == ("the file is gone", 78)
