"""QUIC handshakes: aioquic shakes hands here, the C engine of the data plane is the connection from its first 1-RTT packet on.

    datagram with a long header ─► endpoint ─► dial / accept ─► Front (aioquic without 1-RTT keys)
                                      │                            │ complete
          strays, Retry, resets ◄─────┘                            ▼
                                                export ─► handover ─► engine of a worker (commands out, events in)
                                                             │ confirmed
                                                             ▼
                                                    Warm: what is left of a connection in this process

Sans-I/O but for `port.py` (kernel UDP sockets): time is a parameter, datagrams go in and come out as values. No file here
knows the supervisor, the XDP program or the rings; `handover.py` talks to them through protocols. Nothing but `front.py` and
`hello.py` touches what is private to aioquic, and `tests/unit/quic/test_contract.py` holds every such name to account.

May import `abi`, `native`, `config`, `net`; imported by `supervisor` and `lab`.
"""
