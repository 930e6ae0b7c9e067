"""afterburnerd: reads the command line and the configuration, and runs the daemon until a signal says otherwise.

Signals only set an event: SIGTERM and SIGINT end it, SIGHUP reloads. Exit codes are those of the style of this house:
0 ended in order, 64 usage, 69 something needed is not there or taken, 77 permission, 78 configuration.
"""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import sys
from pathlib import Path

from afterburnerd import __version__
from afterburnerd.abi.shm import ShmError
from afterburnerd.cli import EXIT_CONFIG, EXIT_UNREACHABLE, Parser
from afterburnerd.config import DEFAULT_PATH, ConfigError, Loaded, check_config, load
from afterburnerd.net.default import default_interface
from afterburnerd.net.watch import Watcher, watch
from afterburnerd.observe import messages
from afterburnerd.observe.log import say, setup
from afterburnerd.observe.notify import Notifier
from afterburnerd.supervisor.cleanup import clean_up
from afterburnerd.supervisor.daemon import Daemon, Wishes
from afterburnerd.supervisor.refusal import Refusal


def build_parser() -> Parser:
    parser = Parser(
        prog="afterburnerd",
        description="The Afterburner daemon: captures and decodes UDP traffic by AF_XDP, and exposes what it sees.",
        epilog="Normally started by `systemctl start afterburner`; `afterburnerctl status` shows what it does.",
    )
    parser.add_argument(
        "--config",
        "-c",
        type=Path,
        default=DEFAULT_PATH,
        metavar="FILE",
        help="configuration; conf.d/*.toml beside it is merged in (default: %(default)s)",
    )
    parser.add_argument("--check-config", action="store_true", help="check the configuration and end")
    parser.add_argument("--clean-up", action="store_true", help="remove shared memory that dead daemons left, and end")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if args.check_config:
        return check_config(args.config, sys.stdout, sys.stderr)
    if args.clean_up:
        return clean_up()
    try:
        loaded = load(args.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    setup(loaded.config.daemon.log_level)
    faulthandler.enable()  # the watchdog of systemd ends us with SIGABRT: say where we hung
    try:
        asyncio.run(serve(loaded, args.config))
    except Refusal as refusal:
        say(messages.START_FAILED, reason=str(refusal))
        return refusal.code
    return 0


async def serve(loaded: Loaded, path: Path) -> None:
    """The daemon's life."""
    name = loaded.config.interface.name or await default_interface()
    if not name:
        raise Refusal(
            "interface.name is empty and there is not exactly one default route to take it from: set it", EXIT_CONFIG
        )
    loop = asyncio.get_running_loop()
    refusal: Refusal | None = None
    async with watch(name) as watcher:
        wishes = Wishes()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, wishes.stop.set)
        loop.add_signal_handler(signal.SIGHUP, wishes.reload.set)
        # Out of the watcher's task group in the ordinary way: it would wrap what passes through it.
        refusal = await live(loaded, path, watcher, wishes)
    if refusal is not None:
        raise refusal


async def live(loaded: Loaded, path: Path, watcher: Watcher, wishes: Wishes) -> Refusal | None:
    """Start, run, stop. Returns why it would not start."""
    try:
        daemon = await Daemon.start(loaded, path, watcher, Notifier.from_environment(), wishes)
    except Refusal as refusal:
        return refusal
    except ShmError as error:
        return Refusal(str(error), error.exit_code)
    except OSError as error:
        return Refusal(str(error), EXIT_UNREACHABLE)
    try:
        await daemon.run()
    finally:
        await daemon.stop()
    return None


if __name__ == "__main__":
    sys.exit(main())
