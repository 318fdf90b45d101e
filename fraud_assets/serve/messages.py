"""What the other process of a service says to the one that answers: one JSON object a line."""

import msgspec


class Recent(msgspec.Struct, tag="recent"):
    """What landed before is in this file, one JSON array of a transaction's values a line."""

    path: str


class Prod(msgspec.Struct, tag="prod", frozen=True):
    """The version behind `@prod` with the place of its compiled scorer; or why it cannot be scored with."""

    version: str | None
    problem: str
    folder: str = ""
    registry: str = ""
    model_name: str = ""


class Landed(msgspec.Struct, tag="landed"):
    """So many transactions landed since the last word; or why they could not."""

    transactions: int
    problem: str


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Recent | Prod | Landed).decode
