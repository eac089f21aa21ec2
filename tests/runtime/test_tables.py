"""Tables of text and CSV."""

from __future__ import annotations

import csv
import io

from cpcdr.runtime.tables import csv_text, text_table


def test_csv_holds_every_column() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text([{"a": 1}, {"a": 2, "b": "x, y"}]))))
    assert rows == [{"a": "1", "b": ""}, {"a": "2", "b": "x, y"}]


def test_columns_are_aligned() -> None:
    rows = [["name", "n"], ["a", "100"]]
    assert text_table(rows) == "name  n\na     100"
    assert text_table(rows, str.rjust) == "name    n\n   a  100"
