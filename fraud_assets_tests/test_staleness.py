import random
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from fraud_assets.platform_state import EvaluationState, Made, PlatformState
from fraud_assets.run_requests import Request, requests
from fraud_assets.silver.build import InputDigest
from fraud_assets.silver.features import EMPTY_TAIL
from fraud_assets.silver.labels import LabelsDigest
from fraud_assets.staleness import STAGES, Due, decide
from fraud_assets_tests.depth import cases
from fraud_assets_tests.platform import WITHOUT_HISTORY, WITHOUT_PAGES

DAYS = tuple((date(2026, 1, 1) + timedelta(days=n)).isoformat() for n in range(6))


LISTS_ONLY = WITHOUT_PAGES
"""Histories and reports have files of their own, `silver/test_due_history.py` and `report/test_due_reports.py`."""

LANDED = InputDigest("files", "source", "contract")
LABELS = LabelsDigest("labels", "days")


def silver(*, rows: int = 5, landed: InputDigest = LANDED, **changes: str) -> Made:
    of = {
        "input_version": str(landed),
        "lookback_version": EMPTY_TAIL,
        "tail_version": "t",
        "silver_version": "s",
    }
    return Made(rows, of | changes)


def gold(**changes: str) -> Made:
    return Made(5, {"silver_version": "s", "model_version": "1"} | changes)


def alerts(**changes: Any) -> Made:
    return Made(1, {"silver_version": "s", "model_version": "1", "alerts_per_day": 100} | changes)


def state(**changes: Any) -> PlatformState:
    """One day that is landed, built, scored by version 1, which is behind @prod, and listed; nothing is due."""
    made = {stage: changes.pop(stage, {"2026-01-05": of()}) for stage, of in (("silver", silver), ("gold", gold))}
    made["alerts"] = changes.pop("alerts", {key: alerts(**scored.of) for key, scored in made["gold"].items()})
    return replace(
        PlatformState(
            landed={"2026-01-05": LANDED},
            made=made,
            previous_key={"2026-01-05": "2026-01-04", "2026-01-06": "2026-01-05"},
            prod_version="1",
            silver_data_digest="d1",
        ),
        **changes,
    )


def due(**changes: Any) -> list[tuple[str, str, str, str]]:
    return [(item.stage, item.key, item.why, item.model_version) for item in decide(state(**changes), LISTS_ONLY).due]


def test_nothing_is_due_when_all_is_built_and_scored() -> None:
    assert due() == []


def test_nothing_is_due_when_nothing_landed() -> None:
    assert due(landed={}, silver={}, gold={}, prod_version=None) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(
            {"silver": {}, "gold": {}},
            [("silver", "2026-01-05", "landed, not built yet", "1")],
            id="a landed day is built",
        ),
        pytest.param(
            {"landed": {}, "silver": {}, "gold": {}, "foreign": {"2026-01-05": "f"}},
            [("adoption", "2026-01-05", "something else wrote its Silver rows", "")],
            id="rows that something else wrote",
        ),
        pytest.param(
            {"silver": {}, "foreign": {"2026-01-05": "f"}},
            [("silver", "2026-01-05", "landed, not built yet", "1")],
            id="something else wrote over what landed",
        ),
        pytest.param(
            {"silver": {"2026-01-05": silver(input_version="f", lookback_version="")}},
            [("silver", "2026-01-05", "landed, not built yet", "1")],
            id="files landed for an adopted day",
        ),
        pytest.param(
            {"landed": {}, "silver": {"2026-01-05": silver(input_version="f", lookback_version="")}},
            [],
            id="an adopted day is never built",
        ),
        pytest.param(
            {"landed": {"2026-01-05": LANDED._replace(files="FILES")}},
            [("silver", "2026-01-05", "landed files changed", "1")],
            id="files",
        ),
        pytest.param(
            {"landed": {"2026-01-05": LANDED._replace(source="SOURCE")}},
            [("silver", "2026-01-05", "source file changed", "1")],
            id="source",
        ),
        pytest.param(
            {"landed": {"2026-01-05": LANDED._replace(contract="CONTRACT")}},
            [("silver", "2026-01-05", "feature contract changed", "1")],
            id="contract",
        ),
        pytest.param(
            {"landed": {"2026-01-05": LANDED._replace(files="FILES", contract="CONTRACT")}},
            [("silver", "2026-01-05", "landed files and feature contract changed", "1")],
            id="two parts of the input",
        ),
        pytest.param(
            {
                "landed": {"2026-01-05": LANDED, "2026-01-06": LANDED},
                "silver": {"2026-01-05": silver(), "2026-01-06": silver(lookback_version="t before")},
                "gold": {"2026-01-05": gold(), "2026-01-06": gold()},
            },
            [("silver", "2026-01-06", "the last five minutes of the partition before changed", "1")],
            id="the partition before",
        ),
        pytest.param(
            {"silver": {"2026-01-05": silver(lookback_version="t")}},
            [("silver", "2026-01-05", "the last five minutes of the partition before changed", "1")],
            id="the partition before is gone",
        ),
        pytest.param(
            {"prod_version": None, "gold": {}},
            [("model", "", "no model version is behind @prod", "")],
            id="a first model",
        ),
        pytest.param(
            {"prod_version": None, "gold": {}, "refused_on": "d0"},
            [("model", "", "Silver changed since a candidate was refused", "")],
            id="another candidate",
        ),
        pytest.param({"prod_version": None, "gold": {}, "refused_on": "d1"}, [], id="refused on the same rows"),
        pytest.param(
            {"prod_version": None, "gold": {}, "silver": {"2026-01-05": silver(rows=0)}}, [], id="no row to train on"
        ),
        pytest.param(
            {"gold": {}}, [("gold", "2026-01-05", "built, not scored yet", "1")], id="a built day is scored by @prod"
        ),
        pytest.param({"gold": {}, "silver": {"2026-01-05": silver(rows=0)}}, [], id="an empty day is built once"),
        pytest.param(
            {"silver": {"2026-01-05": silver(silver_version="s2")}, "prod_version": "2"},
            [("gold", "2026-01-05", "its Silver rows changed", "1")],
            id="a corrected day keeps its model version",
        ),
        pytest.param(
            {"silver": {"2026-01-05": silver(silver_version="s2", rows=0)}},
            [("gold", "2026-01-05", "its Silver rows changed", "1")],
            id="scores of an emptied day go",
        ),
        pytest.param({"prod_version": "2"}, [], id="a promotion alone moves no day"),
        pytest.param(
            {"prod_version": "2", "rescore_days": 1},
            [("gold", "2026-01-05", "@prod moved from version 1 to 2", "2")],
            id="a promotion moves the latest days where asked",
        ),
        pytest.param(
            {"prod_version": "2", "rescore_days": 1, "silver": {"2026-01-05": silver(silver_version="s2")}},
            [("gold", "2026-01-05", "@prod moved from version 1 to 2", "2")],
            id="a corrected day that moves is scored once",
        ),
        pytest.param({"landed": {}}, [], id="a day that was taken away stays"),
        pytest.param({"evaluation": EvaluationState("3", LABELS, LABELS)}, [], id="evaluated on all labels"),
        pytest.param(
            {"evaluation": EvaluationState("3", LABELS, LABELS._replace(files="LABELS"))},
            [("evaluation", "", "labels landed or changed since version 3 was evaluated", "3")],
            id="late labels make nothing due but the evaluation",
        ),
        pytest.param(
            {"evaluation": EvaluationState("3", LABELS, LABELS._replace(partitions="DAYS"))},
            [("evaluation", "", "evaluated partitions changed since version 3 was evaluated", "3")],
            id="other rows or labels of the evaluated days",
        ),
        pytest.param(
            {"evaluation": EvaluationState("3", LABELS, LABELS._replace(files="LABELS", partitions="DAYS"))},
            [
                (
                    "evaluation",
                    "",
                    "labels landed or changed and evaluated partitions changed since version 3 was evaluated",
                    "3",
                )
            ],
            id="both",
        ),
        pytest.param(
            {"prod_version": None, "evaluation": EvaluationState("3", LABELS, LABELS._replace(files="LABELS"))},
            [("model", "", "no model version is behind @prod", "")],
            id="a training evaluates",
        ),
        pytest.param(
            {"prod_version": None}, [("model", "", "no model version is behind @prod", "")], id="a new registry"
        ),
        pytest.param({"prod_version": None, "prod_taken_away": True, "gold": {}}, [], id="@prod was taken away"),
        pytest.param(
            {"prod_version": None, "prod_taken_away": True, "refused_on": "d0"},
            [],
            id="@prod was taken away, and a candidate was refused before",
        ),
        pytest.param(
            {
                "prod_version": None,
                "prod_taken_away": True,
                "landed": {"2026-01-05": LANDED._replace(files="FILES")},
                "evaluation": EvaluationState("3", LABELS, LABELS._replace(files="LABELS")),
            },
            [
                ("silver", "2026-01-05", "landed files changed", ""),
                ("evaluation", "", "labels landed or changed since version 3 was evaluated", "3"),
            ],
            id="without @prod, Silver is built and late labels are measured all the same",
        ),
    ],
)
def test_each_reason_is_given_in_words(changes: dict[str, Any], expected: list[tuple[str, str, str, str]]) -> None:
    assert due(**changes) == expected


def test_the_partition_before_may_be_built_and_no_longer_landed() -> None:
    only_next = {"2026-01-06": LANDED}
    built = {"2026-01-05": silver(), "2026-01-06": silver(lookback_version="t")}
    assert due(landed=only_next, silver=built, gold={"2026-01-05": gold(), "2026-01-06": gold()}) == []


@pytest.mark.parametrize(
    ("days", "moved"),
    [(0, []), (1, ["2026-01-06-00", "2026-01-06-07"]), (2, ["2026-01-05-23", "2026-01-06-00", "2026-01-06-07"])],
)
def test_rescore_days_are_days_in_an_hourly_feed_too(days: int, moved: list[str]) -> None:
    keys = ["2026-01-03-04", "2026-01-05-23", "2026-01-06-00", "2026-01-06-07"]
    moving = state(
        landed={},
        silver={key: silver() for key in keys},
        gold={key: gold() for key in keys},
        prod_version="2",
        rescore_days=days,
    )
    assert [item.key for item in decide(moving, LISTS_ONLY).due] == moved


def test_a_plan_lists_silver_then_the_model_then_gold_then_the_evaluation() -> None:
    plan = decide(
        state(
            landed={"2026-01-05": LANDED, "2026-01-06": LANDED},
            gold={"2026-01-05": gold(silver_version="s0")},
            evaluation=EvaluationState("1", LABELS, LABELS._replace(files="LABELS")),
        ),
        LISTS_ONLY,
    )
    assert [(item.stage, item.key) for item in plan.due] == [
        ("silver", "2026-01-06"),
        ("gold", "2026-01-05"),
        ("evaluation", ""),
    ]


def test_where_prod_was_taken_away_a_plan_says_how_to_set_it_and_otherwise_nothing() -> None:
    [note] = decide(state(prod_version=None, prod_taken_away=True)).notes
    assert "`fraud-assets promote VERSION`" in note
    assert "`fraud-assets rollback`" in note
    assert decide(state()).notes == decide(state(prod_version=None)).notes == ()


# requests


def test_a_request_is_a_contiguous_range_of_one_stage() -> None:
    made = requests([Due("silver", DAYS[n], f"why {n}", "cause") for n in (4, 0, 1, 3)], all_keys=DAYS)
    assert [(request.stage, request.keys, request.whys) for request in made] == [
        ("silver", (DAYS[0], DAYS[1]), ("why 0", "why 1")),
        ("silver", (DAYS[3], DAYS[4]), ("why 3", "why 4")),
    ]
    assert [request.label for request in made] == ["silver 2026-01-01...2026-01-02", "silver 2026-01-04...2026-01-05"]


def test_what_is_built_is_scored_in_the_same_run_by_the_version_that_scores_it_then() -> None:
    changed = LANDED._replace(files="FILES")
    plan = due(
        landed={"2026-01-05": changed, "2026-01-06": changed},
        gold={"2026-01-05": gold(model_version="7")},
        prod_version="8",
    )
    assert [(key, version) for _, key, _, version in plan] == [("2026-01-05", "7"), ("2026-01-06", "8")]


def test_where_the_version_behind_prod_cannot_score_silver_is_built_alone() -> None:
    changed = {"landed": {"2026-01-05": LANDED._replace(files="FILES")}}
    assert [version for *_, version in due(prod_problem="it is gone", **changed)] == [""]
    assert [version for *_, version in due(prod_version=None, prod_taken_away=True, **changed)] == [""]


def test_a_request_is_of_one_model_version() -> None:
    versions = ["1", "2", "2", "1", "1"]
    made = requests(
        [Due("gold", day, "why", "cause", version) for day, version in zip(DAYS, versions, strict=False)], all_keys=DAYS
    )
    assert [(request.keys, request.model_version) for request in made] == [
        ((DAYS[0],), "1"),
        ((DAYS[3], DAYS[4]), "1"),
        ((DAYS[1], DAYS[2]), "2"),
    ]


def test_stages_are_requested_in_the_order_of_what_is_due_and_never_in_one_request() -> None:
    mixed = [
        Due("silver", DAYS[0], "a", ""),
        Due("model", "", "b", ""),
        Due("gold", DAYS[1], "c", "", "1"),
        Due("evaluation", "", "d", "", "1"),
    ]
    made = requests(mixed, all_keys=DAYS)
    assert [(request.stage, request.keys, request.label) for request in made] == [
        ("silver", (DAYS[0],), "silver 2026-01-01"),
        ("model", ("",), "model"),
        ("gold", (DAYS[1],), "gold 2026-01-02"),
        ("evaluation", ("",), "evaluation"),
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {"stage": "gold"},
        {"key": DAYS[1]},
        {"cause": "another"},
        {"model_version": "2"},
    ],
)
def test_another_need_is_another_cause_and_other_words_are_none(changed: dict[str, str]) -> None:
    need = Due("silver", DAYS[0], "why", "cause", "1")
    causes = [requests([one], all_keys=DAYS)[0].cause for one in (need, replace(need, why="in other words"))]
    assert causes[0] == causes[1] != requests([replace(need, **changed)], all_keys=DAYS)[0].cause


def test_what_changes_a_cause_is_what_made_it_due() -> None:
    def causes(**changes: Any) -> list[str]:
        return [item.cause for item in decide(state(**changes), WITHOUT_HISTORY).due]

    landed = {"2026-01-05": LANDED._replace(files="others")}
    assert causes(landed=landed) == causes(landed=landed)
    assert causes(landed=landed) != causes(landed={"2026-01-05": LANDED._replace(files="yet others")})
    before = {"2026-01-04": silver(), "2026-01-05": silver()}
    assert causes(landed=landed) != causes(landed=landed, silver=before), "the tail before"
    assert causes(gold={}) != causes(gold={}, silver={"2026-01-05": silver(silver_version="s2")})
    untrained = {"prod_version": None, "gold": {}}
    assert causes(**untrained) != causes(**untrained, silver_data_digest="d2")
    evaluations = [EvaluationState("1", LABELS, LABELS._replace(files=files)) for files in ("more", "more still")]
    assert causes(evaluation=evaluations[0]) != causes(evaluation=evaluations[1])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"alerts": {}}, ["scored, no list of alerts yet"]),
        ({"alerts": {"2026-01-05": alerts(silver_version="s0")}}, ["its scores changed"]),
        ({"alerts": {"2026-01-05": alerts(model_version="0")}}, ["its scores changed"]),
        ({"alerts_per_day": 50}, ["alerts per day changed from 100 to 50"]),
        ({"alerts": {}, "gold": {}}, []),
        (
            {"silver": {"2026-01-05": silver(rows=0)}, "gold": {}, "alerts": {"2026-01-05": alerts()}},
            ["its scores are gone"],
        ),
    ],
    ids=["scored", "corrected", "another version", "another number a day", "not scored", "no rows any more"],
)
def test_a_list_of_alerts_is_due_when_its_scores_or_its_length_changed(
    changes: dict[str, Any], expected: list[str]
) -> None:
    assert [item.why for item in decide(state(**changes)).due if item.stage == "alerts"] == expected


def test_whoever_scores_a_partition_makes_its_list_too() -> None:
    corrected = state(silver={"2026-01-05": silver(silver_version="s2")}, alerts={})
    assert [item.stage for item in decide(corrected, LISTS_ONLY).due] == ["gold"]


def test_lists_of_several_versions_are_made_in_one_run() -> None:
    days = DAYS[:3]
    scored = {day: gold(model_version=str(number)) for number, day in enumerate(days)}
    listed = decide(state(silver=dict.fromkeys(days, silver()), gold=scored, alerts={}))
    assert [request.keys for request in requests(listed.due, all_keys=DAYS) if request.stage == "alerts"] == [days]


def test_each_stage_is_one_entry_with_a_name_and_assets_of_its_own() -> None:
    names = ["silver", "adoption", "model", "gold", "history", "alerts", "reviews", "ranker", "evaluation", "report"]
    assert [stage.name for stage in STAGES] == names
    assert len({(stage.job, stage.assets) for stage in STAGES}) == len(STAGES)
    assert {name for stage in STAGES for name in stage.waits_for} <= {stage.name for stage in STAGES}


def test_a_partition_that_does_not_exist_yet_is_not_requested() -> None:
    assert requests([Due("silver", "2030-01-01", "why", "cause")], all_keys=DAYS) == ()


def test_nothing_due_is_no_request() -> None:
    assert requests([], all_keys=DAYS) == ()


@pytest.mark.parametrize("seed", range(cases(50, 400)))
def test_requests_cover_exactly_what_is_due(seed: int) -> None:
    chance = random.Random(seed)
    wanted = {
        (stage, day, chance.choice("12") if stage == "gold" else "")
        for stage in ("silver", "gold")
        for day in DAYS
        if chance.random() < 0.6
    }
    made = requests([Due(stage, day, "", "", version) for stage, day, version in wanted], all_keys=DAYS)
    assert sorted((r.stage, key, r.model_version) for r in made for key in r.keys) == sorted(wanted)
    for request in made:
        at = DAYS.index(request.keys[0])
        assert request.keys == DAYS[at : at + len(request.keys)]
        # As few as can be: what could have been one range is one.
        before = (request.stage, DAYS[at - 1] if at else "", request.model_version)
        assert before not in wanted


# Histories: whatever happened, doing what is due ends with nothing due.


class World:
    """What is on disk, as the assets would leave it."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.contract = 0
        self.landed: dict[str, tuple[int, str]] = {}  # rows, last five minutes
        self.silver: dict[str, Made] = {}
        self.gold: dict[str, Made] = {}
        self.alerts: dict[str, Made] = {}
        self.reports: dict[str, Made] = {}
        self.alerts_per_day = 100
        self.prod: str | None = None
        self.refused_on: str | None = None
        self.rescore_days = 0
        self.versions = 0
        self.taken_away = False
        self.labels = 0
        self.evaluated: tuple[str, LabelsDigest] | None = None

    def happen(self) -> None:
        """Let one thing happen that people or feeds do."""
        what = self.chance.choice(
            (
                "land",
                "land",
                "land",
                "remove",
                "contract",
                "promote",
                "promote",
                "take away",
                "rescore",
                "label",
                "limit",
            )
        )
        day = self.chance.choice(DAYS)
        if what == "land":
            rows = self.chance.choice((0, 1, 2))
            self.landed[day] = (rows, self.chance.choice((EMPTY_TAIL, "a", "b")) if rows else EMPTY_TAIL)
        elif what == "remove":
            self.landed.pop(day, None)
        elif what == "contract":
            self.contract += 1
        elif what == "promote" and (self.prod is not None or self.taken_away):
            self.versions += 1
            self.prod, self.taken_away = str(self.versions), False
        elif what == "take away" and self.prod is not None:
            self.prod, self.taken_away = None, True
        elif what == "rescore":
            self.rescore_days = self.chance.choice((0, 0, 2))
        elif what == "label":
            self.labels += 1
        elif what == "limit":
            self.alerts_per_day = self.chance.choice((50, 100))

    def state(self) -> PlatformState:
        everything = [f"{day} {built.of['silver_version']}" for day, built in sorted(self.silver.items()) if built.rows]
        return PlatformState(
            landed={day: self.input_digest(day) for day in self.landed},
            made={"silver": dict(self.silver), "gold": dict(self.gold), "alerts": dict(self.alerts)}
            | {"report": dict(self.reports)},
            previous_key={day: (date.fromisoformat(day) - timedelta(days=1)).isoformat() for day in DAYS},
            prod_version=self.prod,
            silver_data_digest="\n".join(everything),
            refused_on=self.refused_on if self.prod is None else None,
            rescore_days=self.rescore_days,
            evaluation=None if self.evaluated is None else EvaluationState(*self.evaluated, self.labels_digest()),
            prod_taken_away=self.taken_away,
            alerts_per_day=self.alerts_per_day,
        )

    def labels_digest(self) -> LabelsDigest:
        built = " ".join(f"{day}:{self.silver[day].of['input_version']}" for day in sorted(self.silver))
        return LabelsDigest(str(self.labels), built)

    def input_digest(self, day: str) -> InputDigest:
        rows, tail = self.landed[day]
        return InputDigest(f"{rows}{tail}", "source", str(self.contract))

    def do(self, request: Request) -> None:
        for key in request.keys:
            if request.stage == "model":
                self.train()
            elif request.stage == "evaluation":
                self.evaluated = (request.model_version, self.labels_digest())
            elif request.stage == "silver":
                self.build(key)
            elif request.stage == "alerts":
                self.list_alerts(key)
            elif request.stage == "report":
                self.report(key)
            else:
                self.score_and_list(key, request.model_version)
        if request.stage == "silver" and request.model_version and self.chance.random() < 0.8:  # else it died between
            for key in request.keys:
                self.score_and_list(key, request.model_version)

    def score_and_list(self, key: str, version: str) -> None:
        self.score(key, version)
        if self.chance.random() < 0.8:  # The run may die between the two.
            self.list_alerts(key)

    def build(self, day: str) -> None:
        before = self.silver.get((date.fromisoformat(day) - timedelta(days=1)).isoformat())
        lookback = EMPTY_TAIL if before is None else before.of["tail_version"]
        rows, tail = self.landed[day]
        scored = f"{rows} {tail} {lookback} {self.contract}" if rows else "none"
        self.silver[day] = silver(
            rows=rows,
            landed=self.input_digest(day),
            lookback_version=lookback,
            tail_version=tail,
            silver_version=scored,
        )

    def train(self) -> None:
        self.versions += 1
        self.evaluated = (str(self.versions), self.labels_digest())
        if self.chance.random() < 0.5:
            self.prod = str(self.versions)
        else:
            self.refused_on = self.state().silver_data_digest

    def score(self, day: str, version: str) -> None:
        built = self.silver[day]
        if built.rows:
            self.gold[day] = gold(silver_version=built.of["silver_version"], model_version=version)
        else:
            self.gold.pop(day, None)  # No row leaves no file in the log.

    def list_alerts(self, day: str) -> None:
        if day in self.gold:
            self.alerts[day] = alerts(**self.gold[day].of, alerts_per_day=self.alerts_per_day)
        else:
            self.alerts.pop(day, None)

    def report(self, day: str) -> None:
        unscored = {"silver_version": self.silver[day].of["silver_version"], "model_version": ""}
        shown = self.alerts[day].of if day in self.alerts else {**unscored, "alerts_per_day": self.alerts_per_day}
        version, digest = self.evaluated or ("", "")
        evaluated = str(digest) if version == shown["model_version"] else ""
        self.reports[day] = Made(
            1, {**shown, "evaluation_version": evaluated, "reviews_version": self.state().reviews_read}
        )

    def step(self, at_most: int | None = None) -> int:
        """Do what is due of the first stage that is due, as `run` does; return how many requests there were."""
        due = decide(self.state(), WITHOUT_HISTORY).due
        asked = requests([item for item in due if item.stage == due[0].stage], all_keys=DAYS)
        for request in asked[:at_most]:
            self.do(request)
        return len(asked)


@pytest.mark.parametrize("seed", range(cases(300, 1_000)))
def test_doing_what_is_due_ends_with_nothing_due_whatever_happened(seed: int) -> None:
    chance = random.Random(seed)
    world = World(chance)
    for _ in range(chance.randrange(1, 12)):
        world.happen()
        for _ in range(chance.randrange(3)):
            world.step(at_most=chance.randrange(3))  # Runs are lost, or something happens before they end.
    scored_before = {day: scored.of["model_version"] for day, scored in world.gold.items()}
    gold_before, chosen, versions_before = dict(world.gold), world.taken_away, world.versions
    # A change and its consequence for the day after, the model, scores, lists, an evaluation, pages; once more in vain.
    rounds = [world.step() for _ in range(8)]

    assert rounds[-1] == 0, rounds
    now = world.state()
    if chosen:
        assert (now.prod_version, world.versions) == (None, versions_before), "a person took @prod away"
    for day, landed in now.landed.items():
        assert now.silver[day].of["input_version"] == str(landed)
    for day, built in now.silver.items():
        before = now.silver.get(now.previous_key[day])
        if day in now.landed:
            assert built.of["lookback_version"] == (before.of["tail_version"] if before else EMPTY_TAIL)
        if now.prod_version is not None:
            assert (
                (now.gold[day].of["silver_version"] == built.of["silver_version"])
                if built.rows
                else day not in now.gold
            )
    assert now.evaluation is None or now.evaluation.evaluated_on == now.evaluation.now
    listed = {day: {**scored.of, "alerts_per_day": world.alerts_per_day} for day, scored in now.gold.items()}
    assert {day: made.of for day, made in now.made["alerts"].items()} == listed
    empty = {day: built for day, built in now.silver.items() if not built.rows}
    for day, shown in {**empty, **now.made["alerts"]}.items():
        assert now.made["report"][day].of["silver_version"] == shown.of["silver_version"]
    if now.prod_version is None:
        assert now.gold == gold_before, "nothing scores without a version behind @prod"
        return
    moved = sorted(now.silver)[-now.rescore_days :] if now.rescore_days else []
    for day, scored in now.gold.items():
        assert scored.of["model_version"] == (
            now.prod_version if day in moved else scored_before.get(day, now.prod_version)
        )
