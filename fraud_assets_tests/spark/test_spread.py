from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.spark.spread import packed, slice_length, slice_starts, spread

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def test_small_partitions_share_a_bucket_and_a_large_one_has_slices_then_parts() -> None:
    made = spread([10, 20, 250, 30], lasts=DAY, most=100)

    assert made.first == (0, 0, 1, 4)
    assert made.slices == (1, 1, 3, 1)
    assert made.parts == (1, 1, 1, 1)
    assert made.buckets == 5


def test_slices_are_no_shorter_than_an_hour_and_what_is_more_is_parted_by_card() -> None:
    made = spread([100_000], lasts=DAY, most=100)
    hourly = spread([100_000], lasts=HOUR, most=100)

    assert (made.slices, made.parts, made.buckets) == ((24,), (42,), 24 * 42)
    assert (hourly.slices, hourly.parts) == ((1,), (1000,))


@given(rows=st.lists(st.integers(0, 5000), max_size=12), most=st.integers(1, 700), lasts=st.sampled_from([DAY, HOUR]))
def test_buckets_of_two_partitions_are_the_same_only_where_both_are_small(rows: list[int], most: int, lasts: timedelta):
    made = spread(rows, lasts=lasts, most=most)
    taken: dict[int, list[int]] = {}
    for count, first, slices, parts in zip(rows, made.first, made.slices, made.parts, strict=True):
        assert slices * parts * most >= count
        for bucket in range(first, first + slices * parts):
            taken.setdefault(bucket, []).append(count)

    assert sorted(taken) == list(range(made.buckets))
    for counts in taken.values():
        assert len([count for count in counts if count]) <= 1 or sum(counts) <= most


@given(slices=st.integers(1, 24), at=st.integers(0, 86_400_000_000 - 1))
def test_every_instant_of_a_partition_is_in_the_slice_that_begins_before_it(slices: int, at: int) -> None:
    start = datetime(2026, 1, 5, tzinfo=UTC)
    microsecond = timedelta(microseconds=1)
    length = slice_length(DAY, slices)
    starts = slice_starts(start, DAY, slices)
    number = min(at // (length // microsecond), slices - 1)

    assert starts[number] <= start + at * microsecond < starts[number] + length
    assert len(starts) == slices


def test_what_is_too_large_stands_alone() -> None:
    assert packed([1, 2, 9, 1, 1], most=3) == [[0, 1], [2], [3, 4]]
    assert packed([], most=3) == []
