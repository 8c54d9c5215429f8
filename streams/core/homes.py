"""The one partition in which all that belongs to a request lives (DESIGN §3 "Home")."""

from functools import lru_cache
from struct import iter_unpack

from streams.core.identity import netstrings

_MULTIPLIER = 0x5BD1E995
_SEED = 0x9747B28C
_WORD = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """Return Kafka's hash of a key as an unsigned 32-bit integer: `org.apache.kafka.common.utils.Utils.murmur2`."""
    length = len(key)
    tail = length & ~3
    h = _SEED ^ length
    for (k,) in iter_unpack("<I", key[:tail]):
        k = k * _MULTIPLIER & _WORD  # noqa: PLW2901 - mixing a word in place is the algorithm
        h = (h * _MULTIPLIER & _WORD) ^ ((k ^ k >> 24) * _MULTIPLIER & _WORD)
    if tail != length:
        h = (h ^ int.from_bytes(key[tail:], "little")) * _MULTIPLIER & _WORD
    h = (h ^ h >> 13) * _MULTIPLIER & _WORD
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition where Java's default partitioner puts a record with this key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def home_of(tenant: str, work_key: str, *, limited: bool, partitions: int) -> int:
    """Return the home of a request.

    A `limited` tenant (one with a budget or a rate limit) has one home, where a producer that keys by tenant puts its
    records anyway; the requests of others spread by `work_key`: the fingerprint where the work may be shared, else the
    request id.
    """
    if limited:
        return _home_of_tenant(tenant, partitions)
    return partition_of(netstrings(tenant, work_key).encode(), partitions)


@lru_cache(maxsize=65_536)
def _home_of_tenant(tenant: str, partitions: int) -> int:
    return partition_of(tenant.encode(), partitions)
