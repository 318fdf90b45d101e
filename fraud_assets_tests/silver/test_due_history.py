import random
from collections.abc import Iterable
from datetime import date, timedelta

from fraud_assets.platform_state import Made, PlatformState
from fraud_assets.silver.build import InputDigest
from fraud_assets.silver.history import HistoryDigest, earlier_digests, silver_digest
from fraud_assets.staleness import STAGES, decide
from fraud_assets_tests.depth import cases
from fraud_assets_tests.test_staleness import LANDED, silver

[HISTORY] = [stage for stage in STAGES if stage.name == "history"]

DAYS = tuple((date(2026, 1, 1) + timedelta(days=n)).isoformat() for n in range(40))


def made_of(built: dict[str, Made], told: dict[str, str]) -> dict[str, Made]:
    """What the asset stores of all these partitions."""
    earlier = earlier_digests({key: told[key] for key in built}, built)
    return {
        key: Made(
            one.rows,
            {
                "history_version": str(HistoryDigest(silver_digest(one.of["input_version"]), str(earlier[key]))),
                "handed_on_version": told[key],
            },
        )
        for key, one in built.items()
    }


def due(built: dict[str, Made], made: dict[str, Made]) -> dict[str, str]:
    """Why each partition is due, of a feed that is built as it landed."""
    landed = {key: InputDigest.parse(one.of["input_version"]) for key, one in built.items()}
    state = PlatformState(landed, {"silver": built, "history": made}, dict.fromkeys(built, "before"), None)
    return {item.key: item.why for item in decide(state, [HISTORY]).due}


def test_a_built_partition_without_a_history_is_due() -> None:
    built = dict.fromkeys(DAYS[:3], silver())
    assert due(built, {}) == dict.fromkeys(DAYS[:3], "built, no history of its cards yet")
    assert due(built, made_of(built, dict.fromkeys(DAYS, "t"))) == {}


def test_a_correction_makes_its_own_day_due_and_then_only_where_it_tells_something_else() -> None:
    built = dict.fromkeys(DAYS, silver())
    made = made_of(built, dict.fromkeys(DAYS, "t"))
    corrected = built | {DAYS[2]: silver(landed=LANDED._replace(files="others"))}

    assert due(corrected, made) == {DAYS[2]: "its landed files changed"}, "nobody knows yet what it hands on"

    same = made_of(corrected, dict.fromkeys(DAYS, "t"))
    assert due(corrected, made | {DAYS[2]: same[DAYS[2]]}) == {}, "labels alone, say"

    others = made_of(corrected, dict.fromkeys(DAYS, "t") | {DAYS[2]: "u"})
    expected = dict.fromkeys(DAYS[3:33], "what its cards did in the 30 days before changed")
    assert due(corrected, made | {DAYS[2]: others[DAYS[2]]}) == expected


def test_a_partition_that_lost_its_rows_loses_its_history() -> None:
    built = dict.fromkeys(DAYS[:2], silver())
    made = made_of(built, dict.fromkeys(DAYS, "t"))
    emptied = built | {DAYS[0]: silver(rows=0)}

    assert due(emptied, made)[DAYS[0]] == "its Silver rows are gone"
    del made[DAYS[0]]
    assert due(emptied, made) == {DAYS[1]: "what its cards did in the 30 days before changed"}


def run(keys: Iterable[str], built: dict[str, Made], told: dict[str, str], made: dict[str, Made]) -> None:
    """Make the history of some partitions from Silver as it is."""
    full = made_of({key: one for key, one in built.items() if one.rows}, told)
    for key in keys:
        made.pop(key, None)
        if key in full:
            made[key] = full[key]


def test_whatever_landed_in_whatever_order_the_histories_end_as_if_built_at_once() -> None:
    """Partitions land, change and empty in any order, and runs take what is due, or some of it, in any order."""
    for seed in range(cases(30, 300)):
        chance = random.Random(seed)
        built: dict[str, Made] = {}
        told: dict[str, str] = {}
        made: dict[str, Made] = {}

        for _ in range(chance.randrange(1, 12)):
            key = chance.choice(DAYS)
            built[key] = silver(rows=chance.choice((0, 5, 5)), landed=LANDED._replace(files=str(chance.randrange(3))))
            told[key] = built[key].of["input_version"][0]
            if chance.random() < 0.5:
                run([one for one in due(built, made) if chance.random() < 0.7], built, told, made)
        for _ in range(len(DAYS)):
            if not (left := due(built, made)):
                break
            run(left, built, told, made)
        assert due(built, made) == {}
        assert made == made_of({key: one for key, one in built.items() if one.rows}, told)
