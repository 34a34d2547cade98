"""The tables of a report's page as a test reads them."""

from shiftbench.registry import METRICS
from shiftbench.reports.names import metric_name


def sheet(walker, name):
    """Headings of the first table of a name, and its rows as cells by heading."""
    (table,) = walker.all("table", id=f"{name}-1")
    inside = [one for one in walker.elements if table in one["parents"]]
    heads = [one["text"] for one in inside if one["tag"] == "th" and one["attrs"]["scope"] == "col"]
    rows = [one for one in inside if one["tag"] == "tr" and "data-filter" in one["attrs"]]
    cells = [[one for one in inside if one["tag"] in ("td", "th") and row in one["parents"]] for row in rows]
    assert all(len(one) == len(heads) for one in cells)
    return heads, [dict(zip(heads, one, strict=True)) for one in cells]


def words(cells):
    """The words of a row by heading; a heading's own small type is left out."""
    return {head: cell["attrs"].get("data-value") for head, cell in cells.items()}


METRIC = {metric_name(name): name for name in [*METRICS, "matched_acc", "sample_consensus", "cluster_jaccard", "pac"]}
