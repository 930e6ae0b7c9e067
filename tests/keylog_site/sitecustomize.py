"""For tests alone: a supervisor started with this directory on PYTHONPATH writes its 1-RTT secrets to AFTERBURNER_TEST_SECRETS.

The product has no such switch. Lines: direction, cipher suite, secret in hexadecimal.
"""

import os

path = os.environ.get("AFTERBURNER_TEST_SECRETS")
if path:
    from aioquic.tls import Epoch

    from afterburnerd.quic.front import Front

    real = Front._update_traffic_key

    def noted(self, direction, epoch, cipher_suite, secret):  # type: ignore[no-untyped-def]
        if epoch == Epoch.ONE_RTT:
            with open(path, "a") as file:  # noqa: PTH123
                file.write(f"{direction.name} {cipher_suite.value} {secret.hex()}\n")
        return real(self, direction, epoch, cipher_suite, secret)

    Front._update_traffic_key = noted
