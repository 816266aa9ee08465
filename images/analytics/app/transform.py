"""From a row of text to a typed record."""

NUMBERS = frozenset(
    "year month day dep_time sched_dep_time dep_delay arr_time sched_arr_time arr_delay"
    " flight air_time distance hour minute".split()
)


def record(row: dict[str, str]) -> dict:
    """The record the CRM stores; `key` is what makes a flight unique in the table."""
    typed = {name: value(name, text) for name, text in row.items()}
    typed["key"] = f"{row['time_hour']}/{row['carrier']}/{row['flight']}"
    return typed


def value(name: str, text: str) -> str | int | None:
    # The table writes an unknown value as NA.
    if text in ("", "NA"):
        return None
    return int(float(text)) if name in NUMBERS else text
