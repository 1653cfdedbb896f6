"""Charts of failure patterns and of intervals: what is drawn, and how much of it."""

import numpy as np
import pandas as pd

from unet_segmentation.reporting.error_analysis_charts import MOST_GROUPS, MOST_POINTS, pattern_charts, patterns_chart
from unet_segmentation.reporting.score_charts import interval_chart


def facts(count: int, groups: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(0)
    table = pd.DataFrame({"sample_id": [f"s{number}" for number in range(count)], "error": random.random(count)})
    table = table.assign(size=128.0, brightness=random.random(count), foreground=random.random(count))
    return table.assign(group=[f"g{number % groups}" if groups else "" for number in range(count)])


def test_what_does_not_differ_is_not_drawn():
    assert set(pattern_charts(facts(50))) == {"brightness", "foreground"}
    assert set(pattern_charts(facts(50, groups=4))) == {"brightness", "foreground", "group"}
    assert pattern_charts(facts(0)) == {}
    assert not patterns_chart(facts(0)).data


def test_many_images_and_groups_stay_a_small_chart():
    table = facts(20_000, groups=300)
    charts = pattern_charts(table)
    points = charts["brightness"].data[0]
    assert len(points.x) == MOST_POINTS
    drawn = table.set_index("sample_id").loc[list(points.text)]
    np.testing.assert_allclose(points.y, drawn["error"], rtol=1e-4)
    assert {table["error"].idxmax(), table["error"].idxmin()} <= set(
        table.index[table["sample_id"].isin(list(points.text))]
    )
    assert len(charts["group"].data) == MOST_GROUPS
    assert len(charts["brightness"].to_json()) < 200_000


def test_the_line_joins_medians_of_tenths():
    table = facts(100)
    line = pattern_charts(table)["brightness"].data[1]
    ranked = table.sort_values("brightness")["error"].to_numpy().reshape(10, 10)
    np.testing.assert_allclose(line.y, np.median(ranked, axis=1))


def test_one_figure_holds_all_patterns():
    figure = patterns_chart(facts(100, groups=3))
    assert [note.text for note in figure.layout.annotations] == [
        "Error against brightness", "Error against foreground", "Error by group",
    ]  # fmt: skip


def test_intervals_are_bars_and_doubtful_ones_hollow():
    table = pd.DataFrame(
        [["dice/mean", 0.9, 0.85, 0.92, True], ["iou/mean", 0.8, 0.7, 0.85, False], ["never", 0.5, None, None, False]],
        columns=["score", "value", "low", "high", "trusted"],
    )
    [trace] = interval_chart(table, {"iou/mean": "Mean IoU", "dice/mean": "Mean Dice", "never": "never"}).data
    assert list(trace.y) == ["Mean IoU", "Mean Dice"]
    np.testing.assert_allclose(np.subtract(trace.x, trace.error_x.arrayminus), [0.7, 0.85])
    np.testing.assert_allclose(np.add(trace.x, trace.error_x.array), [0.85, 0.92])
    assert list(trace.marker.symbol) == ["circle-open", "circle"]
