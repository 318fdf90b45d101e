"""Numbers as people write them: with a decimal comma, thousands set apart, a currency, parentheses around a debit."""

from typing import Final

from fraud_assets.sql import literal

_BLANK: Final = r"[ \x{a0}\x{202f}]"

_CURRENCY: Final = rf"{_BLANK}*(?:[$€£¥]|[A-Z]{{3}})?{_BLANK}*"

_APART: Final = {" ": _BLANK, "'": r"['\x{2019}]"}
"""Thousands set apart by a blank or an apostrophe may have the typographic one."""

_SIGNS: Final = {"": "", "+": "", "-": "-", "()": "-"}
"""The marks around a number, and its sign. A minus may stand before or behind it, or behind the currency."""


def number(cell: str, type_: str, *, decimal: str, thousands: str) -> str:
    """Return the SQL of a number in a type; NULL where the cell is none, thousands are not in threes, or marks clash.

    With a decimal comma and points between thousands `4.711` is 4711, `4,711` is 4.711 and `4.71` is nothing.
    """
    apart = _APART.get(thousands, f"[{thousands}]")
    whole = rf"\d+|\d{{1,3}}(?:{apart}\d{{3}})+" if thousands else r"\d+"
    pattern = rf"^([-+(]?){_CURRENCY}([-+]?)((?:{whole})(?:[{decimal}]\d+)?){_CURRENCY}([-)]?)$"
    digits = f"regexp_replace(m.digits, {literal(apart)}, '', 'g')" if thousands else "m.digits"
    signs = " ".join(f"WHEN {literal(marks)} THEN {literal(sign)}" for marks, sign in _SIGNS.items())
    return (
        f"list_transform([regexp_extract(trim({cell}), {literal(pattern)}, ['before', 'inside', 'digits', 'after'])],"
        f" lambda m: TRY_CAST(CASE m.before || m.inside || m.after {signs} END"
        f" || replace({digits}, {literal(decimal)}, '.') AS {type_}))[1]"
    )
