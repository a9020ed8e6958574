from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from xml.etree import ElementTree

import pytest

from controlplane.core.charts import (
    Bar,
    Mark,
    Series,
    Span,
    Steps,
    StepTimeline,
    Timeline,
    horizontal_bars,
    level_bar,
    line_chart,
    share,
    spark_line,
    stacked_bars,
    step_chart,
)
from controlplane.core.figures import dollars, plain, short

DAYS = ["14 Nov", "15 Nov", "16 Nov"]
REQUESTS = Timeline("Requests per day", DAYS, [Series("Requests", [0, 8_819, 19_366])], "requests")


def parsed(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<div>{markup}</div>")  # noqa: S314 our own markup


def plots(markup: str, tag: str) -> list[ElementTree.Element]:
    return list(parsed(markup).iter(tag))


def texts(markup: str) -> list[str]:
    return [element.text or "" for element in plots(markup, "text")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (950, "950"),
        (1_250, "1.25k"),
        (999_900, "1M"),
        (22_361_870, "22.4M"),
        (1_200_000_000, "1.2B"),
        (0.5, "0.5"),
    ],
)
def test_an_axis_figure_is_short(value, text):
    assert short(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "$0"),
        (Decimal("0.000012345"), "$0.00001234"),
        (Decimal("0.5"), "$0.5000"),
        (Decimal("1"), "$1.00"),
        (Decimal("1234.567"), "$1,234.57"),
    ],
)
def test_an_amount_that_is_not_zero_never_reads_as_zero(value, text):
    assert dollars(value) == text


def test_every_number_is_in_the_table_in_full():
    table = plots(line_chart(REQUESTS), "table")[0]

    cells = [cell.text for cell in table.iter("td")][1:]
    assert cells == ["0", "8,819", "19,366"]


def test_the_chart_says_its_span_and_peak_to_those_who_do_not_see_it():
    [image] = [svg for svg in plots(line_chart(REQUESTS), "svg") if svg.get("role") == "img"]

    assert image.get("aria-label") == (
        "Requests per day, 14 Nov to 16 Nov, in requests. Requests: highest 19,366 on 16 Nov."
    )


def test_each_period_has_a_title_and_a_link_to_its_list():
    timeline = Timeline("Errors", DAYS, [Series("Errors", [1, 2, 3])], "errors", urls=["?d=14", "?d=15", "?d=16"])

    links = plots(line_chart(timeline), "a")

    assert [link.get("href") for link in links] == ["?d=14", "?d=15", "?d=16"] * 2
    assert [link.text for link in links[3:]] == DAYS
    assert [link.find("title").text for link in links[:3]] == [
        "14 Nov\nErrors: 1 errors",
        "15 Nov\nErrors: 2 errors",
        "16 Nov\nErrors: 3 errors",
    ]


def test_the_keyboard_passes_the_picture_and_stops_in_the_table():
    links = plots(horizontal_bars("Models", [Bar("gpt-4o", 2, "2", "?m=1")], unit="requests"), "a")

    assert [link.get("tabindex") for link in links] == ["-1", None]


def test_the_axis_begins_at_zero_and_ends_above_the_highest_value():
    values = [float(text.removesuffix("k")) for text in texts(line_chart(REQUESTS)) if re.fullmatch(r"[\d.]+k?", text)]

    assert values == [0, 5, 10, 15, 20]


def test_an_axis_of_counts_has_no_halves():
    chart = line_chart(Timeline("Errors", DAYS, [Series("Errors", [0, 1, 2])]))

    assert texts(chart)[:3] == ["0", "1", "2"]


def test_an_empty_time_has_an_axis_and_no_bars():
    chart = stacked_bars(Timeline("Requests", DAYS, [Series("Completed", [0, 0, 0]), Series("Failed", [None, 0, 0])]))

    assert [r for r in plots(chart, "rect") if "cp-hit" not in r.get("class")] == []
    assert texts(chart)[:2] == ["0", "1"]


def test_no_periods_at_all_still_make_a_picture():
    assert "nothing in this time" in line_chart(Timeline("Requests", [], [Series("Requests", [])]))


def test_an_unfinished_period_is_hollow_and_named_so():
    timeline = Timeline("Requests", DAYS, [Series("Requests", [5, 6, 1])], unfinished=True)

    line, bars = line_chart(timeline), stacked_bars(timeline)

    assert "so far" in texts(line)
    assert "so far" in texts(bars)
    assert [c.get("class").split()[-1] == "cp-hollow" for c in plots(line, "circle")] == [False, False, True]
    assert [p.get("class").split()[-1] for p in plots(line, "polyline")] == ["cp-s1", "cp-open"]
    drawn = [r.get("class").split() for r in plots(bars, "rect") if "cp-hit" not in r.get("class")]
    assert ["cp-bar-open" in classes for classes in drawn] == [False, False, True]
    assert "16 Nov so far" in bars


def test_a_finished_last_period_is_drawn_like_the_others():
    assert "so far" not in line_chart(REQUESTS)
    assert "cp-hollow" not in line_chart(REQUESTS)


def test_a_gap_stays_a_gap():
    chart = line_chart(Timeline("Latency", ["a", "b", "c", "d", "e"], [Series("p50", [1, 2, None, 4, 5])]))

    assert [len(p.get("points").split()) for p in plots(chart, "polyline")] == [2, 2]
    assert len(plots(chart, "circle")) == 4
    assert "no figure" in chart


def test_stacked_parts_add_up_to_the_height_of_their_sum():
    chart = stacked_bars(Timeline("Requests", ["a"], [Series("Completed", [60]), Series("Failed", [20])]))

    bars = [rect for rect in plots(chart, "rect") if "cp-hit" not in rect.get("class")]
    assert [float(bar.get("height")) for bar in bars] == [120, 40]
    assert [float(bar.get("y")) for bar in bars] == [40, 0]


def test_a_tiny_part_can_be_seen():
    chart = stacked_bars(Timeline("Requests", ["a"], [Series("Completed", [100_000]), Series("Failed", [1])]))

    assert min(float(rect.get("height")) for rect in plots(chart, "rect")) >= 1.5


def test_several_series_have_a_legend_and_one_has_none():
    two = Timeline("Tokens", ["a"], [Series("Input", [1]), Series("Output", [2])])

    assert [item[0].tail for item in plots(stacked_bars(two), "li")] == ["Input", "Output"]
    assert "cp-legend" not in line_chart(REQUESTS)


@pytest.mark.parametrize("count", [1, 7, 14, 24, 31, 90])
def test_period_names_lie_inside_the_picture(count):
    names = [f"{number} Nov" for number in range(count)]
    chart = line_chart(Timeline("Requests", names, [Series("Requests", list(range(count)))]))

    shown = [t for t in plots(chart, "text") if t.text in names]
    assert len(shown) <= 6
    assert shown[-1].text == names[-1]
    # Six names of 38 px under the 250 px of a phone's plot: half a name needs 7.6 % on each side.
    places = [float(text.get("x").removesuffix("%")) for text in shown]
    assert min(places) >= 7
    assert max(places) <= 92.5


def test_a_ranking_shows_name_figure_and_share():
    chart = horizontal_bars(
        "Requests by model", [Bar("gpt-4o", 200, "200", "?m=1"), Bar("tiny", 1, "1")], unit="requests"
    )

    widths = [r.get("width") for r in plots(chart, "rect") if r.get("class") == "cp-s1"]
    assert widths == ["100%", "0.6%"]
    assert [link.get("href") for link in plots(chart, "a")] == ["?m=1"] * 2
    assert texts(chart) == ["gpt-4o", "200", "tiny", "1"]


def test_a_long_name_is_cut_in_the_picture_and_whole_in_its_title():
    name = "an-extremely-long-model-name-2025-11-21-preview"
    chart = horizontal_bars("Requests by model", [Bar(name, 1, "1")], unit="requests")

    assert texts(chart)[0].endswith("…")
    assert plots(chart, "title")[0].text == f"{name}: 1"


def test_a_spark_line_says_its_title_and_dashes_the_unfinished_end():
    spark = spark_line([1, 2, 3, 1], title="Requests, 4 days", unfinished=True)

    assert plots(spark, "svg")[0].get("aria-label") == "Requests, 4 days"
    assert "cp-open" in plots(spark, "polyline")[-1].get("class")


@pytest.mark.parametrize("values", [[], [None], [0, 0], [5]])
def test_a_spark_line_stands_poor_data(values):
    assert plots(spark_line(values, title="Requests"), "svg")


def test_names_are_escaped_and_nothing_is_inline():
    evil = "<script>alert(1)</script>"
    chart = stacked_bars(Timeline(evil, [evil], [Series(evil, [1]), Series("b", [1])], evil, urls=['"><x onload="1']))

    assert "<script" not in chart
    assert not re.search(r'\son\w+="|\sstyle="', chart)
    assert parsed(chart) is not None


def test_plain_groups_thousands_and_keeps_small_fractions():
    assert [plain(22_361_870), plain(0.1234567), plain(Decimal("1234.6"))] == ["22,361,870", "0.1235", "1,235"]


# ---------------------------------------------------------------- values that hold until they are others


JANUARY, FEBRUARY, MARCH, MAY = (datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3, 5))


def steps(*spans, name="Input", dashed=False):
    return Steps(name, [Span(*span) for span in spans], 0, dashed)


def of_prices(*lines, now=MAY, end=MAY):
    return StepTimeline("Price of gpt", "USD per 1M tokens", JANUARY, end, now, lines, dollars)


def points(markup):
    return [
        [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
        for line in plots(markup, "polyline")
    ]


def test_a_value_changes_upright_and_where_it_did():
    (line,) = points(step_chart(of_prices(steps((JANUARY, MARCH, 5), (MARCH, MAY, 2)))))

    assert [x for x, _ in line] == [0, 49.17, 49.17, 100]
    assert line[0][1] == line[1][1] < line[2][1] == line[3][1]


def test_where_no_value_holds_there_is_no_line_and_the_figures_say_so():
    markup = step_chart(of_prices(steps((JANUARY, FEBRUARY, 5), (MARCH, MAY, 2))))

    assert len(points(markup)) == 2
    assert [cell.text for cell in plots(markup, "td")[1:]] == ["$2.00", "–", "$5.00"]


def test_what_is_told_of_steps_names_each_line_its_first_value_and_its_last():
    markup = step_chart(
        of_prices(steps((JANUARY, MARCH, 5), (MARCH, MAY, 2)), steps((MARCH, MAY, 1), name="Acme: Input"))
    )

    told = next(picture.get("aria-label") for picture in plots(markup, "svg") if picture.get("role") == "img")

    assert told == (
        "Price of gpt, 2026-01-01 to 2026-05-01, in USD per 1M tokens. Input: 2 values, from $5.00 to $2.00. Acme: Input: $1.00."
    )


def test_what_is_planned_lies_behind_a_mark_of_now():
    planned = of_prices(steps((JANUARY, MAY, 5)), now=MARCH)

    assert len([line for line in plots(step_chart(planned), "line") if line.get("class") == "cp-now"]) == 1
    assert "cp-now" not in step_chart(of_prices(steps((JANUARY, MAY, 5))))


def test_a_line_that_is_set_apart_is_dashed_in_its_legend_too():
    markup = step_chart(of_prices(steps((JANUARY, MAY, 5)), steps((JANUARY, MAY, 4), name="Acme", dashed=True)))

    assert [line.get("class") for line in plots(markup, "polyline")] == ["cp-line cp-s1 ", "cp-line cp-s1 cp-open"]
    assert [mark.get("class") for mark in plots(markup, "i")] == ["cp-s1 ", "cp-s1 cp-dashed"]


def test_names_in_a_picture_of_steps_are_escaped():
    assert "<b>" not in step_chart(of_prices(steps((JANUARY, MAY, 5), name="<b>x</b>")))


def test_a_level_says_in_words_and_colour_how_full_it_is():
    calm, near, full = (level_bar("so much", used, 1, [Mark(10)]) for used in (3, 7.5, 9.5))

    assert 'aria-label="so much"' in calm
    assert "cp-near" not in calm
    assert "cp-near" in near
    assert "cp-full" in full
    assert calm.count("<line") == 1


def test_a_level_ends_at_the_highest_of_what_is_used_and_the_marks():
    over = level_bar("", 20, 0, [Mark(10), Mark(5, firm=False)])

    assert 'class="cp-used" x="0%" y="3" width="100%"' in over
    assert 'class="cp-firm" x1="50%" x2="50%"' in over
    assert 'class="cp-firm cp-open" x1="25%"' in over


@pytest.mark.parametrize(("used", "limit", "part"), [(5, 10, 0.5), (0, 0, 1.0), (3, None, None), (20, 10, 2.0)])
def test_of_a_limit_of_nothing_all_is_used(used, limit, part):
    assert share(used, limit) == part


def test_a_level_without_anything_is_empty_and_without_a_mark_full():
    assert "cp-used" not in level_bar("", 0)
    assert 'width="100%" height="6" rx="2"' in level_bar("", Decimal("0.01"))
