"""The catalogue of messages: what the daemon says in its log, each under an identifier that never changes.

An operator filters by it (`journalctl MESSAGE_ID=...`), a runbook refers to it, and a text may be improved without
breaking either. docs/messages.md is generated from here. To add one: `uuidgen | tr -d -`; to take one out of use: leave its
line and say so in `help`.

`text` is filled with the fields given to `log.say`; the fields go to the journal beside it, in capitals, with AB_ in front.
"""

from __future__ import annotations

import logging

import msgspec

DEBUG, INFO, WARNING, ERROR, CRITICAL = (
    logging.DEBUG,
    logging.INFO,
    logging.WARNING,
    logging.ERROR,
    logging.CRITICAL,
)


class Message(msgspec.Struct, frozen=True):
    name: str
    id: str  # 128 bits, 32 hexadecimal digits
    level: int
    text: str
    help: str  # what it means and what to do


CATALOGUE: dict[str, Message] = {}


def _message(name: str, id: str, level: int, text: str, help: str) -> Message:
    message = Message(name, id, level, text, help)
    CATALOGUE[name] = message
    return message


# --- life of the daemon ----------------------------------------------------------------------------------------------

STARTING = _message(
    "STARTING",
    "9f511e0d34f64447938f77d07547e2d3",
    INFO,
    "Afterburner {version} starts on {interface} as {name}",
    "The supervisor begins to set things up.",
)
SERVING = _message(
    "SERVING",
    "582b9596effe477a9350a52983803dfb",
    INFO,
    "serving on {interface}: {summary}",
    "Every worker runs with every queue bound. Follows a start, and the end of a recovery or of a degraded time.",
)
DEGRADED = _message(
    "DEGRADED",
    "a11c3cb9a4524e4592682acbd0c0f45e",
    WARNING,
    "serving, but degraded: {reason}",
    "Packets are handled, but something configured is not in force. `afterburnerctl doctor` says what would help.",
)
STOPPED = _message(
    "STOPPED",
    "bf4dcb9adbc64f8eb3d071f5a1a98cde",
    INFO,
    "stopped",
    "Nothing is left behind: program detached, shared memory removed.",
)
START_FAILED = _message(
    "START_FAILED",
    "c731db7d844640f9b80f9ac728750e6c",
    CRITICAL,
    "cannot start: {reason}",
    "The text names what is missing and what to do. Nothing was left attached.",
)
STALE_REPLACED = _message(
    "STALE_REPLACED",
    "59ad0b53560b4195b7364158b4df5013",
    WARNING,
    "replaced what a dead daemon left in shared memory ({detail})",
    "An earlier daemon was killed. Its last figures are gone with this start.",
)

STOP_FAILED = _message(
    "STOP_FAILED",
    "205b7ed059d944419aa33e6b81ae5d46",
    WARNING,
    "while stopping: {reason}",
    "Something could not be given back in order; the end of the process gives it back.",
)

MANAGER_UNREACHABLE = _message(
    "MANAGER_UNREACHABLE",
    "c0c4ed48a6bd481b8a0a1ab7c2809e0d",
    WARNING,
    "the service manager cannot be told: {reason}",
    "Serving goes on. A watchdog that hears nothing may restart the daemon.",
)

# --- data plane ------------------------------------------------------------------------------------------------------

WORKER_STARTED = _message(
    "WORKER_STARTED",
    "9db09b7b950e49ae8ab3826634f93853",
    INFO,
    "worker {worker} runs on CPU {cpu} as process {pid}",
    "A worker has entered its loop.",
)
WORKER_DIED = _message(
    "WORKER_DIED",
    "5f301fcb4f364da5960417fb24e5be47",
    ERROR,
    "worker {worker} (process {pid}) died: {how}",
    "It is restarted at once. A signal 31 (SIGSYS) is a system call that its sandbox forbids: please report it.",
)
WORKER_HUNG = _message(
    "WORKER_HUNG",
    "4eada3aae20945048191ab787483dc02",
    ERROR,
    "worker {worker} (process {pid}) has not turned its loop for {silence}: killing it",
    "It is restarted at once. The limit is watch.hang_ms.",
)
WORKER_RECOVERED = _message(
    "WORKER_RECOVERED",
    "d70cb28645d04612aaec26e47b181e67",
    INFO,
    "worker {worker} serves again, {duration} after its loss was noticed",
    "The program stayed attached; what came in between was dropped and counted as worker_down.",
)
WORKER_BACKOFF = _message(
    "WORKER_BACKOFF",
    "36c6fb387ce947fd968603f4ae3f98e7",
    ERROR,
    "worker {worker} failed {failures} times in a row, the next try is in {delay}: {reason}",
    "The reason is what it said last. Tries go on, ever more seldom (watch.backoff_ms).",
)
WORKER_STOLEN_TIME = _message(
    "WORKER_STOLEN_TIME",
    "b49c6d7735d5480986e2cc7172d7a6da",
    WARNING,
    "the supervisor itself woke {late} late, so worker {worker} gets a second look before it counts as hung",
    "The host is overloaded, or a hypervisor takes its processors away: look at steal time.",
)

# --- configuration ---------------------------------------------------------------------------------------------------

RELOAD_APPLIED = _message(
    "RELOAD_APPLIED",
    "3806d4d73f2b42be9494f02577719c37",
    INFO,
    "configuration {generation} is in force: {changes}",
    "A reload changed this.",
)
RELOAD_UNCHANGED = _message(
    "RELOAD_UNCHANGED",
    "cfe69621ad314f74b169d45324781461",
    INFO,
    "reload: nothing has changed",
    "The files say what is in force.",
)
RELOAD_REFUSED = _message(
    "RELOAD_REFUSED",
    "709cf36287c6480ea17e5850d36586ef",
    ERROR,
    "reload refused, the old configuration stays in force: {reason}",
    "Nothing was applied. `afterburnerctl config check` shows file, line and key.",
)

# --- network ---------------------------------------------------------------------------------------------------------

XDP_ATTACHED = _message(
    "XDP_ATTACHED",
    "3f1cb40b63054e19845a407f8164521c",
    INFO,
    "XDP program attached to {interface} in {mode} mode",
    "Native mode is the fast one.",
)
MODE_FALLBACK = _message(
    "MODE_FALLBACK",
    "69c31759dcdf4e3b82a6530e40658299",
    WARNING,
    "{interface}: a better mode is not to be had: {reason}; trying {mode}",
    "Slower than hoped for. Set interface.mode to what you expect to make this an error.",
)
INTERFACE_DOWN = _message(
    "INTERFACE_DOWN",
    "2e6dbddd49724e81b7b907c93b555ca2",
    WARNING,
    "{interface} went down: {reason}",
    "Service goes on by itself when it comes back.",
)
INTERFACE_UP = _message(
    "INTERFACE_UP",
    "544cf351487a496ab090ebac8b42aa8a",
    INFO,
    "{interface} is up",
    "Queues are bound again where that was needed.",
)
INTERFACE_CHANGED = _message(
    "INTERFACE_CHANGED",
    "89b5bc06568a40cda3e89c739fec9d68",
    WARNING,
    "{interface} changed: {changes}",
    "MTU, queues or address. Queues are bound anew; some packets may have been lost meanwhile.",
)

REBIND_FAILED = _message(
    "REBIND_FAILED",
    "fbce6dceaa8a438e911ceed92bf0b6fe",
    ERROR,
    "{interface} changed and its queues could not be bound again: {reason}; restarting the worker",
    "A fresh data plane tries again, with back-off. If it stays so, `afterburnerctl doctor` looks at the interface.",
)

PROGRAM_LOST = _message(
    "PROGRAM_LOST",
    "1c65b254d6e346faa4f25eb5d300b312",
    ERROR,
    "the XDP program is no longer attached to {interface}; attaching it again",
    "Somebody detached it (`bpftool link detach`). Where another program took its place the state says degraded.",
)

# --- privileges and surroundings -------------------------------------------------------------------------------------

PRIVILEGE_MISSING = _message(
    "PRIVILEGE_MISSING",
    "9c5df6dd0b0846539a75ed6b765baa94",
    WARNING,
    "worker {worker} lacks a privilege: {consequence}",
    "The unit file grants what is needed; a start by hand needs root or these capabilities.",
)
EXPORTER_LISTENS = _message(
    "EXPORTER_LISTENS",
    "5794b90ba6a1473287c1640d003608c8",
    INFO,
    "metrics at http://{listen}/metrics",
    "For Prometheus; /healthz beside it.",
)
EXPORTER_FAILED = _message(
    "EXPORTER_FAILED",
    "3e51ed00d42043a58b94d3a5a9b30c31",
    ERROR,
    "no metrics page: {reason}",
    "The daemon serves without it. Set exporter.listen and reload.",
)
FRAME_ERRORS = _message(
    "FRAME_ERRORS",
    "38a609958e594f7090481ab0d06b56e6",
    CRITICAL,
    "worker {worker} queue {queue}: packet memory does not add up ({errors} times)",
    "A defect of Afterburner: please report it with `afterburnerctl stats -j`.",
)

# --- QUIC ---------------------------------------------------------------------------------------------------------------

QUIC_LISTENS = _message(
    "QUIC_LISTENS",
    "45e1e3dd41404a6f89362477bf1fa332",
    INFO,
    "QUIC listener {name}: {address} port {port}",
    "Connections are accepted there; what arrives goes to the record ring.",
)
QUIC_PORT_FAILED = _message(
    "QUIC_PORT_FAILED",
    "2685e80c964741d5903b172e50374e28",
    ERROR,
    "QUIC listener {name} cannot be had: {reason}",
    "Another program has the port (`ss -lunp`), or the address is not this host's. A reload tries again.",
)
QUIC_CONNECTED = _message(
    "QUIC_CONNECTED",
    "ff0049f65ce54694b4958fc19cc17fd5",
    INFO,
    "connection {name} to {address} port {port} is open after {took} (identity {identity})",
    "The data plane has adopted it; messages that waited are on their way.",
)
QUIC_LOST = _message(
    "QUIC_LOST",
    "b628faacb83246b6a56fcc9992bfb8fc",
    WARNING,
    "connection {name} is lost: {reason}",
    "It is dialled again; what was not acknowledged goes again.",
)
QUIC_DIAL_FAILED = _message(
    "QUIC_DIAL_FAILED",
    "8a7c2275c9c6454d8403feb30fe64972",
    WARNING,
    "cannot connect {name}: {reason}",
    "It is tried again, with pauses of up to 5 s; only the first failures in a row are logged.",
)
QUIC_TRACE_FAILED = _message(
    "QUIC_TRACE_FAILED",
    "c1e64a0ab2c84f0f8a2f0d9d8f2b7a16",
    WARNING,
    "cannot trace a connection: {reason}",
    "The connection goes on; no more is written of it. Make room, or choose another quic.trace_dir, and switch it on again.",
)
