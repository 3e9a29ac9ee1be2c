from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .__main__ import SECTIONS, main, run_section
from ._harness import Bench, Result, Row, Table, calls, peer
from ._report import as_text, write_json
from ._runs import _merged, in_fresh_interpreters

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.filterwarnings("ignore")  # the peers' own
def test_every_section_runs(section: str) -> None:
    """Each section measures something for every row of ours; no number is looked at."""
    tables = run_section(section, quick=True)
    assert tables
    for table in tables:
        assert table.title in as_text(table)
        assert all(result.value is not None for result in table.results if result.role != "peer")


def test_a_peer_that_is_not_installed() -> None:
    """A missing peer is shown as such, and is no failure."""

    def missing() -> None:
        raise ModuleNotFoundError(name="peer")

    table = table_of(peer("a peer", missing))  # type: ignore[arg-type]
    assert "not installed" in as_text(table)


def table_of(*others: Row, at_most: float = 1e9) -> Table:
    rows = [Row("floor", calls(int), "floor"), Row("ours", calls(int), "ours", at_most=at_most)]
    return Bench(quick=True).compare("A table", [*rows, *others], unit="ns")


def test_a_missed_target_is_said_and_fails_nothing() -> None:
    """The verdict stands in the table."""
    assert "met, <= 1e+09 x" in as_text(table_of())
    assert "MISSED, <= -1e+09 x" in as_text(table_of(at_most=-1e9))


def test_calls_a_second_are_whole_numbers() -> None:
    """The inverse of a call's seconds; the CPU time of the client says nothing there."""
    text = as_text(Table("t", "1/s", [Result("a", "floor", 0.0003, cpu=0.0001, ratio=1.0)]))
    assert text.splitlines()[0] == "t  (calls a second, median of 1 rounds; ratios of wall time)"
    assert text.splitlines()[-1].split() == ["floor", "a", "3,333", "1.000"]


def test_all_numbers_go_to_a_file(tmp_path: Path) -> None:
    """The JSON file holds each table, and what it was measured on."""
    path = tmp_path / "numbers.json"
    write_json(str(path), {"section": [table_of()]})
    read = json.loads(path.read_text())
    assert read["sections"]["section"][0]["results"][1]["name"] == "ours"
    assert read["machine"]["python"] == sys.version


def test_the_command() -> None:
    """The documented command prints a table; progress goes to standard error."""
    command = [sys.executable, "-m", "tests.benchmarks", "hot-path", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "get_token()" in done.stdout
    assert "hot-path" in done.stderr


def test_interpreters_are_pooled() -> None:
    """Each measures the section for itself; what is told is the middle, and how far they differ."""
    table, *_ = in_fresh_interpreters("minting", 3, "--quick")
    assert table.rounds == 6
    assert "medians of 3 interpreters" in table.notes[-1]
    ours = next(result for result in table.results if result.role == "ours")
    assert ours.value
    assert ours.ratio
    assert ours.error


def test_the_middle_of_what_they_found() -> None:
    """A row is the median of its rows, by its own name; a size has no ratio."""
    found = [Result("a", "ours", value, ratio=value / 2) for value in (1.0, 2.0, 9.0)]
    table = _merged([Table("t", "ns", [result, Result("b", "ours", 7.0)]) for result in found])
    first, second = table.results
    assert (first.value, first.ratio, second.value, second.ratio) == (2.0, 1.0, 7.0, None)


def test_an_unknown_section_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt section is a mistake that is named."""
    with pytest.raises(SystemExit):
        main(["hot-pat", "--quick"])
    assert "no such section: hot-pat" in capsys.readouterr().err
