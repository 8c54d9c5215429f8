"""Homes: where Kafka's own partitioner would put the tenant, or spread by work."""

from collections import Counter

import pytest
from aiokafka.partitioner import murmur2 as murmur2_of_aiokafka
from hypothesis import given
from hypothesis import strategies as st

from streams.core.homes import home_of, murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "signed"),
    [  # org.apache.kafka.common.utils.UtilsTest.testMurmur2
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_javas(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed % 2**32


@given(st.binary(max_size=300))
def test_the_hash_is_aiokafkas(key: bytes) -> None:
    assert murmur2(key) == murmur2_of_aiokafka(key)


def test_a_partition_is_the_positive_hash_modulo_p() -> None:
    assert partition_of(b"21", 12) == 0  # -973932308 without its sign bit: 1173551340
    assert partition_of(b"foobar", 12) == 6  # 1357151166


def test_a_limited_tenant_lives_where_its_name_as_a_key_goes() -> None:
    assert home_of("foobar", "r-1", limited=True, partitions=12) == 6
    assert home_of("foobar", "r-2", limited=True, partitions=12) == 6


def test_homes_never_move_between_releases() -> None:
    assert home_of("acme", "r-1", limited=True, partitions=12) == 0
    assert home_of("acme", "r-1", limited=False, partitions=12) == 8


def test_a_tenant_without_limits_spreads_over_all_partitions() -> None:
    homes = Counter(home_of("acme", f"r-{n}", limited=False, partitions=12) for n in range(1200))

    assert sorted(homes) == list(range(12))
    assert max(homes.values()) < 150


def test_the_border_between_tenant_and_work_key_counts() -> None:
    moved = sum(
        home_of(f"t{n}a", "b", limited=False, partitions=1000) != home_of(f"t{n}", "ab", limited=False, partitions=1000)
        for n in range(100)
    )

    assert moved > 90


@given(st.text(), st.text(), st.booleans(), st.integers(1, 100))
def test_a_home_is_one_of_the_partitions(tenant: str, work_key: str, limited: bool, partitions: int) -> None:
    assert 0 <= home_of(tenant, work_key, limited=limited, partitions=partitions) < partitions
