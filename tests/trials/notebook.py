"""A command whose trials are lines in a text file: what the tests of the mechanism record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpcdr.trials.child_run import ChildRun, Config


@dataclass
class Notebook:
    """Trials ``a``, ``b``, ... that report a score at each step."""

    path: Path
    total: int

    def lines(self, key: str = "") -> list[dict[str, Any]]:
        text = self.path.read_text() if self.path.exists() else ""
        found = [json.loads(line) for line in text.splitlines()]
        return [line for line in found if key in ("", line["key"])]

    def write(self, key: str, **values: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"key": key, **values}) + "\n")

    def key(self, config: Config) -> str:
        return str(config["letter"])

    def child_run(self, key: str) -> ChildRun:
        lines = self.lines(key)
        rows = [({"score": line["score"]}, line["step"]) for line in lines if "score" in line]
        errors = [line["error"] for line in lines if "error" in line]
        tags = {"end": errors[-1] or "good"} if errors else {}
        return ChildRun(f"letter {key}", {"letter": key}, rows, tags, failed=any(errors))

    def report(self, key: str, config: Config, result: dict[str, Any]) -> str | None:
        if any(line.get("step") == result["step"] for line in self.lines(key)):
            return None
        self.write(key, step=result["step"], score=result["score"])
        return f"{key} {result['step']}"

    def end(self, key: str, error: str) -> None:
        self.write(key, error=error)

    def with_line(self, word: str) -> set[str]:
        return {line["key"] for line in self.lines() if word in line}

    def ended(self) -> int:
        return len(self.with_line("error"))

    def unrecorded(self) -> list[str]:
        return sorted(self.with_line("error") - self.with_line("recorded"))

    def recorded(self, key: str) -> None:
        self.write(key, recorded=True)
