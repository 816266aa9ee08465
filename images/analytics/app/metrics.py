"""Metrics from inside a task: a file in the Prometheus text format that muster takes along."""

import os


class Histogram:
    def __init__(self, name: str, description: str, bounds: tuple[float, ...]) -> None:
        self._name = name
        self._description = description
        self._bounds = bounds
        self._values: list[float] = []

    def observe(self, value: float) -> None:
        self._values.append(value)

    def text(self) -> str:
        name = self._name
        lines = [f"# HELP {name} {self._description}", f"# TYPE {name} histogram"]
        for bound in self._bounds:
            lines.append(f'{name}_bucket{{le="{bound}"}} {sum(v <= bound for v in self._values)}')
        lines.append(f'{name}_bucket{{le="+Inf"}} {len(self._values)}')
        lines.append(f"{name}_sum {sum(self._values)}")
        lines.append(f"{name}_count {len(self._values)}")
        return "\n".join(lines) + "\n"


def write_metrics(texts: list[str]) -> None:
    """Writes the file muster reads when the task ends; without muster there is none to write."""
    path = os.environ.get("MUSTER_METRICS_FILE")
    if path:
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(texts)
