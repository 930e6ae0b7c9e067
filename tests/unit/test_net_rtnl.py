"""pyroute2 is entered by the back door: little of it is loaded, and the front door still opens afterwards."""

from __future__ import annotations

import subprocess
import sys


def run(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_the_network_facts_do_not_load_the_rest_of_pyroute2() -> None:
    loaded = run(
        "import sys, afterburnerd.net.watch\n"
        "print(*[name for name in sys.modules if name.startswith('pyroute2.')], sep='\\n')"
    ).split()
    assert "pyroute2.iproute.linux" in loaded
    assert not {
        name for name in loaded if name.split(".")[1] in ("ndb", "nftables", "ipdb", "plan9", "dhcp", "conntrack")
    }


def test_whoever_imports_pyroute2_afterwards_gets_all_of_it() -> None:
    program = (
        "import afterburnerd.net.watch, pyroute2\n"
        "from pyroute2 import NDB, IPRoute, netns\n"
        "from afterburnerd.net.rtnl import AsyncIPRoute\n"
        "assert pyroute2.AsyncIPRoute is AsyncIPRoute\n"
        "import pyroute2.nosuch\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert "No module named 'pyroute2.nosuch'" in done.stderr, done.stderr


def test_a_name_that_is_nowhere_is_an_attribute_error() -> None:
    assert "AttributeError" in run(
        "import afterburnerd.net.rtnl, pyroute2\ntry: pyroute2.nosuch\nexcept AttributeError as e: print(repr(e))"
    )
