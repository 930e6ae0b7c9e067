"""afterburnerctl: what an operator sees of the daemon and does to it.

    main.py         the parser, and which command does what
    base.py         where the daemon is, and how results are printed

    status.py       one page: is it well?                    statistics + control socket
    top.py          the same, live, with rates               statistics + control socket
    stats.py        every figure                             statistics
    inspect.py      transactions as they come in             record rings
    connections.py  who is connected to whom                 rows of connections + control socket
    quic.py         dial, close, send, qlog, keylog          control socket
    reload.py       apply the configuration                  control socket
    settings.py     config show, check, diff                 files + control socket
    doctor/         examine machine and device               the machine
    trace/          what the kernel drops, and why           the kernel

What is shown is data first (view.py, quicview.py, connview.py, transactions.py), made of looks again and again (watch.py),
and a page last (tables.py, units.py); filters.py says which records, programs.py what everybody calls a program.

Statistics and records lie in shared memory: what is read from there can be read with every process dead. A command
imports what it needs when it runs, so that the others stay quick.
"""
