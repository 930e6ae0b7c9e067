"""The network as the kernel tells it, and the XDP program's place in it.

    facts.py      what is known, as frozen structs; what became different, as events              (data)
    link.py neighbour.py route.py     messages of the kernel -> facts; decisions taken on them    (pure)
    queues.py ethtool.py rtnl.py      how the kernel is asked and listened to
    watch.py      keeps the facts true and follows destinations: `async with watch("eth0") as watcher`

Knows nothing of the daemon's configuration, workers or connections.
"""
