"""For tests alone: what a supervisor started with this directory on PYTHONPATH does that the product has no switch for.

AFTERBURNER_TEST_KEY_UPDATE    its engines update their keys after so many packets, not after millions
"""

import os

update = os.environ.get("AFTERBURNER_TEST_KEY_UPDATE")
if update:
    import msgspec

    from afterburnerd.supervisor.seat import Seat

    real_order = Seat.order

    def order(self):  # type: ignore[no-untyped-def]
        return msgspec.structs.replace(real_order(self), key_update_packets=int(update))

    Seat.order = order
