"""Real Redis and Valkey servers for tests and benchmarks: single, Cluster, Sentinel, bad networks.

Everything runs on loopback, on free ports, and is gone when the process that started it is.
"""

from ._binary import Binary, ServerMissing, find_binaries, find_binary
from ._certs import Certificates, certificates
from ._waiting import eventually, eventually_async
from .cluster import RedisCluster, SlotMigration
from .faults import (
    Cut,
    CutAfter,
    Delay,
    Fault,
    HalfOpen,
    LoseReply,
    Refuse,
    Script,
    Stall,
    Step,
    Throttle,
    faults,
    scripts,
)
from .proxy import FaultyProxy
from .sentinel import RedisSentinel
from .server import RedisServer

__all__ = [
    "Binary",
    "Certificates",
    "Cut",
    "CutAfter",
    "Delay",
    "Fault",
    "FaultyProxy",
    "HalfOpen",
    "LoseReply",
    "RedisCluster",
    "RedisSentinel",
    "RedisServer",
    "Refuse",
    "Script",
    "ServerMissing",
    "SlotMigration",
    "Stall",
    "Step",
    "Throttle",
    "certificates",
    "eventually",
    "eventually_async",
    "faults",
    "find_binaries",
    "find_binary",
    "scripts",
]
