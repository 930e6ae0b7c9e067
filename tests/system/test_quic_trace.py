"""qlog and key logs of real daemons, judged by tshark: what it decrypts with the keys is what the qlog says was sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from afterburnerd.abi import control
from afterburnerd.abi.connections import read_table
from tests import qlog_schema
from tests.interop import tshark
from tests.system.test_quic import PORT, Two, connections, peer, two

pytestmark = [pytest.mark.privileged, pytest.mark.bpf]

NAMES = {"STREAM": "stream", "ACK": "ack", "ACK_ECN": "ack", "PING": "ping", "PADDING": "padding"}


def trace(daemon: Any, **request: Any) -> control.Traced:
    with daemon.client() as client:
        answer: control.Traced = client.ask(control.TraceRequest(**request), control.Traced)
        return answer


def packets(events: list[dict[str, Any]], name: str) -> dict[int, list[str]]:
    return {
        e["data"]["header"]["packet_number"]: [f["frame_type"] for f in e["data"]["frames"]]
        for e in events
        if e["name"] == f"transport:{name}"
    }


def dial_again(both: Two, name: str) -> control.ConnectionStatus:
    address = both.server.rig.near.ipv4
    with both.client.client() as daemon:
        daemon.ask(control.DialRequest(name=name, address=address, port=PORT), control.Accepted)

    def found() -> control.ConnectionStatus | None:
        return next((c for c in connections(both.client).connections if c.name == name and c.state == "open"), None)

    both.client.wait(lambda: found() is not None, "the dial")
    status = found()
    assert status is not None
    return status


@pytest.mark.skipif(bool(tshark.missing()), reason=tshark.missing() or "-")
def test_tshark_sees_what_the_logs_say(tmp_path: Path) -> None:
    allow = "[quic]\nconnections = 64\nallow_keylog = true\n"
    with two(tmp_path, "socket", quic=allow) as both:
        both.wait_open()
        tshark.segmented(both.server.rig.near, both.client.rig.near)
        for kind in ("qlog", "keylog"):
            trace(both.client, kind=kind, on=True, new=True)
        near = both.client.rig.near
        with tshark.capture(near.ifname, tmp_path / "run.pcap", namespace=near.name):
            row = dial_again(both, "traced")
            with both.client.client() as daemon:
                for n in range(30):
                    daemon.ask(control.SendRequest(connection="traced", data=b"%d" % n * 200), control.Accepted)

            def quiet() -> bool:
                return all(c.waiting == 0 for c in connections(both.client).connections)

            both.client.wait(quiet, "all to be acknowledged")
            with both.client.client() as daemon:
                daemon.ask(control.CloseRequest(connection="traced", reason="enough"), control.Accepted)
            directory = both.client.directory / "run" / "trace"
            log = directory / f"{row.number}-client.sqlog"
            both.client.wait(lambda: b"connection_closed" in log.read_bytes(), "the end to be written")
        header, events = qlog_schema.read(log)
        assert header["trace"]["vantage_point"]["type"] == "client"
        keys = directory / f"{row.number}-client.keys"
        labels = [line.split()[0] for line in keys.read_text().splitlines()]
        assert {"CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET"} <= set(labels)
        assert {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"} <= set(labels)

        ours = [
            p
            for p in tshark.read(tmp_path / "run.pcap", keys, port=PORT)
            if row.local_port in (p.source[1], p.destination[1])
        ]
        mine = _of_connection(ours)
        assert tshark.faults(mine) == [], "all of it can be decrypted, from the first Initial on"
        one = [p for p in mine if p.kind == "1rtt"]
        # The connection may live a little between the command that adopts and the one that traces: what is on the wire before
        # the first packet that it is said to have sent may be missing.
        traced = min(packets(events, "packet_sent"))
        begin = min(p.datagram for p in one if p.destination[1] == PORT and p.number == traced)
        for outgoing, name in ((True, "packet_sent"), (False, "packet_received")):
            way = [p for p in one if (p.destination[1] == PORT) is outgoing and p.number is not None]
            seen = {p.number: [NAMES.get(f.name, f.name.lower()) for f in p.frames] for p in way}
            said = packets(events, name)
            assert {p.number for p in way if p.datagram >= begin} <= set(said) <= set(seen), name
            assert len(said) > len(seen) // 2
            close = {"connection_close_app": "connection_close"}
            assert {n: set(f) for n, f in said.items()} == {n: {close.get(f, f) for f in seen[n]} for n in said}


def _of_connection(found: list[tshark.Packet]) -> list[tshark.Packet]:
    """Only the dialled connection's: both share a local port, so by the connection IDs of its handshake."""
    ids = {p.scid for p in found if p.kind in ("initial", "handshake") and p.scid}
    first = [i for i, p in enumerate(found) if p.kind == "initial"]
    after = found[first[0] :] if first else []
    known = {p.dcid for p in after if p.kind in ("initial", "handshake")} | ids
    grown = True
    while grown:  # connection IDs that were told later are not followed: the run is too short for that
        grown = False
    return [p for p in after if p.dcid in known or p.kind != "1rtt"]


def test_switched_on_and_off_while_it_runs(tmp_path: Path) -> None:
    with two(tmp_path) as both:
        number = both.wait_open().number
        both.send(b"before")
        both.wait_acknowledged()
        answer = trace(both.client, kind="qlog", on=True, connections=("peer",))
        (path,) = (Path(f) for f in answer.files)
        assert path.name == f"{number}-client.sqlog" and answer.connections == 1

        def shown() -> int:
            return next((r.trace for r in read_table(both.client.name, 0).rows if r.id == number), -1)

        both.client.wait(lambda: shown() == 1, "the table to show it")
        both.send(b"during")
        both.wait_acknowledged()
        both.client.wait(lambda: b'"stream"' in path.read_bytes(), "the message to be logged")
        trace(both.client, kind="qlog", on=False, every=True)
        both.client.wait(lambda: shown() == 0, "the table to show that")
        size = path.stat().st_size
        both.send(b"after")
        both.wait_acknowledged()
        assert path.stat().st_size == size and peer(both.client).number == number
        _, events = qlog_schema.read(path)
        streams = [f for e in events for f in e["data"].get("frames", ()) if f["frame_type"] == "stream"]
        assert [f["length"] for f in streams] == [len(b"during")]
        assert b"during" not in path.read_bytes(), "a qlog carries no data"


def test_keys_are_refused_where_they_are_not_allowed(tmp_path: Path) -> None:
    with two(tmp_path) as both:
        both.wait_open()
        with pytest.raises(control.ControlError, match="allow_keylog") as refused:
            trace(both.client, kind="keylog", on=True, connections=("peer",))
        assert refused.value.exit_code == 77
        with pytest.raises(control.ControlError, match="no connection"):
            trace(both.client, kind="qlog", on=True, connections=("nobody",))
        assert not (both.client.directory / "run" / "trace").exists()
