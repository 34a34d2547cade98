"""A merged report of 200 encoders under 76 conditions with 10 seeds stays small; benchmarks/reports.py times it."""

import pytest

from benchmarks.reports import ENCODERS, LABEL_FREE, LABELLED, make, measured
from shiftbench.registry import METRICS
from shiftbench.reports import report
from shiftbench.results.tables import Results


@pytest.mark.slow
def test_two_hundred_encoders(tmp_path, walk):
    make(tmp_path / "large", measured())
    path = report(tmp_path / "large", tmp_path / "page")
    assert path.stat().st_size < 15e6
    results = Results.load(tmp_path / "page")
    walker = walk(path.read_text(encoding="utf-8"))
    (table,) = walker.all("table", id="overview-1")
    rows = [one for one in walker.all("tr") if "data-filter" in one["attrs"] and table in one["parents"]]
    assert len(rows) == ENCODERS * 2 * 2  # ACC and ARI, frozen and refit
    assert "The other 2 metrics are in summary.csv" in walker.all("section", id="overview")[0]["text"]
    assert len(results.comparisons) == ENCODERS * (ENCODERS - 1) / 2 * 2 * 2 * len([*LABELLED, *LABEL_FREE])
    assert set(METRICS) > set(results.cells["metric"])
