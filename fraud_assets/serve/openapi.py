"""The OpenAPI document of the service, made from the very structs that are decoded and encoded."""

from functools import cache
from typing import Any, Final

import msgspec

from fraud_assets.serve.records import CanonicalRecord, Fault
from fraud_assets.serve.service import Answer
from fraud_assets.silver.contract import FEATURES
from fraud_assets.silver.source import Source

_REF: Final = "#/components/schemas/{name}"

_REFUSALS: Final = {
    "401": "The token is missing or wrong.",
    "408": "The body took too long.",
    "409": "The card has another transaction of this id in the same partition. Nothing was accepted.",
    "413": "The body or the list is too large.",
    "415": "The body is not declared as application/json.",
    "422": "Records that cannot be scored, each with field and reason. Nothing was accepted.",
    "429": "More transactions a second than allowed.",
    "503": "Not ready, or too busy: nothing was accepted, try again.",
}

_READINESS: Final = {"200": {"description": "Yes."}, "503": {"description": "Not yet; the body says why."}}

_STATE_PATHS: Final = {
    "/health": {"get": {"summary": "Is the process alive?", "responses": {"200": _READINESS["200"]}}},
    "/ready": {"get": {"summary": "Are transactions scored?", "responses": _READINESS}},
    "/metrics": {
        "get": {
            "summary": "Counters for Prometheus",
            "security": [{}, {"token": []}],
            "responses": {"200": {"description": "Text."}, "401": {"description": _REFUSALS["401"]}},
        }
    },
}


class Refusal(msgspec.Struct):
    """Why a request was not accepted."""

    errors: list[Fault]


def document(source: Source, card_header: str | None) -> bytes:
    """Return the document as JSON."""
    return _document(source.name, tuple(sorted(source.columns.values())), card_header)


@cache
def _document(feed: str, expressions: tuple[str, ...], card_header: str | None) -> bytes:
    _, schemas = msgspec.json.schema_components([CanonicalRecord, Answer, Refusal], ref_template=_REF)
    canonical: dict[str, Any] = schemas["CanonicalRecord"]
    canonical["properties"]["event_timestamp"] |= {"format": "date-time", "description": "Without an offset it is UTC."}
    canonical["properties"]["TransactionAmt"] |= {"minimum": 0, "exclusiveMaximum": 1e11}
    canonical["properties"]["isFraud"] = {"description": "The label, 0 or 1, where it is known; it is not scored."}
    for feature in FEATURES:
        schemas["Answer"]["properties"][feature.name]["description"] = feature.meaning
    schemas["RawRecord"] = {
        "type": "object",
        "description": f"The columns of the feed {feed}, read by its expressions: {'; '.join(expressions)}",
    }
    record = {"anyOf": [{"$ref": _REF.format(name=name)} for name in ("CanonicalRecord", "RawRecord")]}
    answer = {"$ref": _REF.format(name="Answer")}
    refusal = _json({"$ref": _REF.format(name="Refusal")})
    score: dict[str, Any] = {
        "summary": "Score a transaction, or a list of them",
        "description": "A list is accepted as a whole or not at all, and all of it is known before any is scored.",
        "security": [{}, {"token": []}],
        "requestBody": {"required": True, **_json({"oneOf": [record, {"type": "array", "items": record}]})},
        "responses": {
            "200": {
                "description": "Score, model version and features; of a list, in its order.",
                **_json({"oneOf": [answer, {"type": "array", "items": answer}]}),
            },
            **{status: {"description": words, **refusal} for status, words in _REFUSALS.items()},
        },
    }
    if card_header is not None:
        score["parameters"] = [
            {
                "name": card_header,
                "in": "header",
                "required": True,
                "description": "The card_id, percent-encoded: a proxy spreads the cards by it.",
                "schema": {"type": "string"},
            }
        ]
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": f"fraud_assets: {feed}", "version": "1"},
            "paths": {"/score": {"post": score}, **_STATE_PATHS},
            "components": {
                "schemas": schemas,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}
