"""afterburnerctl: what an operator sees of the daemon and does to it.

    main.py       the parser, and which command does what
    base.py       where the daemon is, and how results are printed
    status.py     one page: is it well?                     statistics + control socket
    top.py        the same, live, with rates                statistics + control socket
    stats.py      every figure                              statistics
    inspect.py    transactions as they come in              record rings
    reload.py     apply the configuration                   control socket
    settings.py   config show, check, diff                  files + control socket
    doctor.py     examine machine and device                the machine
    generate.py   completion scripts and manual pages, from the parsers

Statistics and records lie in shared memory: what is read from there can be read with every process dead. A command
imports what it needs when it runs, so that the others stay quick.
"""
