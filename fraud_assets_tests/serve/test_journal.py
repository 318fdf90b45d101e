"""What is committed is there after any death; what is sealed lands exactly once."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_assets.serve.journal import Entry, Journal, JournalError, entries, landed_entries, segments
from fraud_assets.serve.landing import forget_landed, land_sealed
from fraud_assets_tests.depth import cases

NOON = 1_767_614_400_000_000
DAY = 86_400_000_000


def entry(name: str, **changes: Any) -> Entry:
    given: dict[str, Any] = {
        "line": msgspec.json.encode({"TransactionID": name}).decode(),
        "is_canonical": True,
        "id": name,
        "time_us": NOON,
        "card": "c",
        "product": "W",
        "thousandths": 1,
        "is_international": False,
        "answered_us": NOON,
        "answer": msgspec.Raw(msgspec.json.encode({"to": name})),
    }
    return Entry(**given | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "serve" / "8080"


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    with Journal(folder, durable=True) as journal:
        yield journal


def commit(journal: Journal) -> None:
    journal.end_commit(journal.begin_commit()())


def ids(folder: Path) -> list[str]:
    return [found.id for segment in segments(folder) for _, found in entries(segment)]


def landed(landing: Path) -> dict[str, list[str]]:
    files = sorted(path for path in landing.glob("*/*") if not path.name.startswith("."))
    return {f"{path.parent.name}/{path.name.split('.', 1)[1]}": path.read_text().splitlines() for path in files}


def test_an_answer_is_found_before_and_after_it_is_durable_sealed_and_landed(folder: Path, journal: Journal):
    places = [journal.append(entry(name)) for name in "ab"]
    assert [journal.answer(place) for place in places] == [b'{"to":"a"}', b'{"to":"b"}']
    commit(journal)
    assert [journal.answer(place) for place in places] == [b'{"to":"a"}', b'{"to":"b"}']
    journal.seal()
    assert journal.answer(places[1]) == b'{"to":"b"}'
    land_sealed(folder, folder.parent / "landing", "daily")
    assert journal.answer(places[1]) == b'{"to":"b"}'


def test_what_was_not_committed_is_not_there(folder: Path, journal: Journal):
    journal.append(entry("a"))
    commit(journal)
    journal.append(entry("b"))
    assert ids(folder) == ["a"]


@given(cut=st.integers(0, 2_000), names=st.lists(st.text(min_size=1), min_size=1, max_size=5, unique=True))
@settings(max_examples=cases(60, 120), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_of_a_file_that_ends_anywhere_exactly_the_whole_entries_count(
    tmp_path_factory: pytest.TempPathFactory, cut: int, names: list[str]
):
    folder = tmp_path_factory.mktemp("journal")
    with Journal(folder, durable=False) as journal:
        ends = [0]
        for name in names:
            journal.append(entry(name))
            commit(journal)
            ends.append(segments(folder)[0].stat().st_size)
    [segment] = segments(folder)
    os.truncate(segment, min(cut, ends[-1]))
    assert ids(folder) == [name for name, end in zip(names, ends[1:], strict=True) if end <= cut]


def test_a_segment_is_written_over_zeros_that_are_no_entries(folder: Path, journal: Journal):
    [first, *names] = [f"{number:0300d}" for number in range(600)]  # more than is written ahead at first
    places = [journal.append(entry(first))]
    commit(journal)
    [segment] = segments(folder)
    ahead = segment.stat().st_size
    assert segment.read_bytes().endswith(bytes(60_000))
    sizes = {ahead}
    for name in names:
        places.append(journal.append(entry(name)))
        commit(journal)
        sizes.add(segment.stat().st_size)
    assert len(sizes) == 5, "six hundred groups, and its size changes five times"
    assert ids(folder) == [first, *names], "as a process finds it that begins after a kill"
    assert [journal.answer(place) for place in places[::100]] == [
        bytes(entry(name).answer) for name in [first, *names][::100]
    ]
    whole = segment.read_bytes()
    journal.seal()
    [sealed] = segments(folder)
    assert sealed.read_bytes() == whole.rstrip(b"\0")
    assert ids(folder) == [first, *names]
    journal.append(entry("next"))
    commit(journal)
    assert segments(folder, "open")[0].stat().st_size > 60_000


def test_where_no_room_is_for_zeros_entries_are_durable_without(
    folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
):
    real = os.pwrite

    def full(file: int, written: bytes, at: int) -> int:
        if not any(written):
            raise OSError(28, "No space left on device")
        return real(file, written, at)

    monkeypatch.setattr(os, "pwrite", full)
    for name in "abc":
        journal.append(entry(name))
        commit(journal)
    assert ids(folder) == ["a", "b", "c"]
    assert 0 not in segments(folder)[0].read_bytes()


def test_a_group_that_the_disk_refuses_leaves_nothing(folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch):
    journal.append(entry("a"))
    commit(journal)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", full)
        journal.append(entry("b"))
        with pytest.raises(JournalError, match="No space left"):
            commit(journal)
    journal.append(entry("c"))
    commit(journal)
    assert ids(folder) == ["a", "c"]


def test_a_segment_whose_name_is_not_durable_is_not_written(
    folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
):
    def refuse(_: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("fraud_assets.serve.journal.sync_folder", refuse)
        with pytest.raises(JournalError, match="cannot be written: Input/output error"):
            journal.append(entry("lost"))
    assert segments(folder) == []
    synced = []
    monkeypatch.setattr("fraud_assets.serve.journal.sync_folder", synced.append)
    journal.append(entry("kept"))
    commit(journal)
    assert synced == [folder]
    assert ids(folder) == ["kept"]


def test_a_journal_has_one_writer(folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fraud_assets.serve.journal.LOCK_SECONDS", 0)
    with pytest.raises(JournalError, match="Another process"):
        Journal(folder, durable=True)


def test_a_new_process_seals_what_the_one_before_left_open_and_begins_another_segment(folder: Path):
    first = Journal(folder, durable=True)
    first.append(entry("a"))
    commit(first)
    first._lock.release()  # as the system does when a process dies
    with Journal(folder, durable=True) as second:
        assert [path.suffix for path in segments(folder)] == [".sealed"]
        second.append(entry("b"))
        commit(second)
        assert [path.name for path in segments(folder)] == ["0000000001.sealed", "0000000002.open"]
    assert ids(folder) == ["a", "b"]


def test_each_transaction_lands_once_in_its_partition_however_often_landing_is_tried(folder: Path, journal: Journal):
    landing = folder.parent.parent / "landing"
    for one in (
        entry("a"),
        entry("b", time_us=NOON + DAY),
        entry("raw", is_canonical=False),
        entry("known", line=None),
        entry("c"),
    ):
        journal.append(one)
    commit(journal)
    journal.seal()
    expected = {
        "2026-01-05/canonical.jsonl": ['{"TransactionID":"a"}', '{"TransactionID":"c"}'],
        "2026-01-05/jsonl": ['{"TransactionID":"raw"}'],
        "2026-01-06/canonical.jsonl": ['{"TransactionID":"b"}'],
    }
    assert land_sealed(folder, landing, "daily") == 4
    assert landed(landing) == expected
    # A process that died before it renamed the segment does it all again.
    [segment] = segments(folder, "landed")
    segment.rename(segment.with_suffix(".sealed"))
    assert land_sealed(folder, landing, "daily") == 4
    assert landed(landing) == expected
    assert [one.id for one in landed_entries(folder.parent)] == ["a", "b", "raw", "known", "c"]


def test_what_landed_is_kept_until_it_is_old(folder: Path, journal: Journal):
    journal.append(entry("a"))
    commit(journal)
    journal.seal()
    forget_landed(folder, lambda _: True)
    assert len(segments(folder, "sealed")) == 1
    land_sealed(folder, folder.parent / "landing", "daily")
    forget_landed(folder, lambda _: False)
    assert len(segments(folder, "landed")) == 1
    forget_landed(folder, lambda _: True)
    assert segments(folder) == []


def test_a_journal_that_does_not_land_forgets_what_no_window_sees(folder: Path, journal: Journal):
    places = []
    for name, time in (("a", NOON), ("b", NOON + 10)):
        places.append(journal.append(entry(name, time_us=time)))
        commit(journal)
        journal.seal()
    journal.forget(NOON + 5)
    assert journal.answer(places[1]) == b'{"to":"b"}'
    assert ids(folder) == ["b"]
