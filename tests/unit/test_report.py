"""``benefits report``: what was spent by month and product, and the chart of it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import defaultdict
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benefits_core import OfferProducts, PlaceOrder, Product, Spending
from benefits_service.commands.chart import draw
from benefits_sqlite import SqliteStore
from contract.builders import stocked
from unit.command import Command

# One second before and at the beginning of December in UTC; both are in December in Tokyo, and in November in New York.
LATE = datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)
EARLY = datetime(2026, 12, 1, tzinfo=UTC)
IN_MARCH = datetime(2027, 3, 5, tzinfo=UTC)

REPORT = """\
month    product_id  name     count   spent
2026-11  netflix     Netflix      1   75.99
2026-12  netflix     Netflix      1   75.99
2026-12  spotify     Spotify      2   91.98
2027-03  gym         Gym          1  400.00
"""

SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"


@pytest.fixture
def database(benefits: Command) -> None:
    """Create a database in the folder of the command, in which an order is cancelled."""
    with SqliteStore("benefits.db") as store:
        stocked(store)
        PlaceOrder(store, now=lambda: LATE)("jo", ["netflix"])
        PlaceOrder(store, now=lambda: EARLY)("jo", ["spotify"])
        PlaceOrder(store, now=lambda: EARLY)("bo", ["netflix", "spotify"])
        PlaceOrder(store, now=lambda: IN_MARCH)("al", ["gym"])
        PlaceOrder(store, now=lambda: IN_MARCH)("kim", ["gym", "flu-shot"])
    benefits("cancel", "5")


@pytest.mark.usefixtures("database")
class TestReport:
    def test_it_adds_up_each_product_of_each_month_without_cancelled_orders(self, benefits: Command) -> None:
        assert benefits("report", "--timezone", "UTC") == (0, REPORT, "")

    def test_a_product_is_named_as_it_was_when_it_was_bought(self, benefits: Command) -> None:
        with SqliteStore("benefits.db") as store:
            OfferProducts(store)([Product("netflix", "Netflix 4K", Decimal(99))])

        assert benefits("report", "--timezone", "UTC")[1] == REPORT

    def test_csv_has_the_amounts_as_decimals_and_the_currency(
        self, benefits: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BENEFITS_CURRENCY", "EUR")
        _, out, _ = benefits("report", "--timezone", "UTC", "--format", "csv")

        assert out.splitlines()[:2] == [
            "month,product_id,name,count,spent,currency",
            "2026-11,netflix,Netflix,1,75.99,EUR",
        ]

    @pytest.mark.parametrize(
        ("zone", "months"),
        [
            ("UTC", {"2026-11": "75.99", "2026-12": "167.97", "2027-03": "400.00"}),
            ("Asia/Tokyo", {"2026-12": "243.96", "2027-03": "400.00"}),
            ("America/New_York", {"2026-11": "243.96", "2027-03": "400.00"}),
        ],
    )
    def test_months_are_those_of_the_timezone(
        self, benefits: Command, monkeypatch: pytest.MonkeyPatch, zone: str, months: dict[str, str]
    ) -> None:
        named = benefits.rows("report", "--timezone", zone)
        with monkeypatch.context() as machine:
            machine.setenv("TZ", zone)
            time.tzset()
            of_the_machine = benefits.rows("report")
        time.tzset()
        spent: dict[str, Decimal] = defaultdict(Decimal)
        for row in named:
            spent[row["month"]] += row["spent"]

        assert spent == {month: Decimal(amount) for month, amount in months.items()}
        assert of_the_machine == named

    @pytest.mark.parametrize(
        ("options", "months"),
        [
            (["--since", "2026-12-01", "--timezone", "UTC"], ["2026-12", "2026-12", "2027-03"]),
            (["--until", "2026-11-30", "--timezone", "UTC"], ["2026-11"]),
            (["--until", "2026-11-30", "--timezone", "Asia/Tokyo"], []),
            (["--since", "2026-12-01", "--until", "2026-12-01", "--timezone", "Asia/Tokyo"], ["2026-12"] * 2),
            (["--since", "2027-03-06"], []),
        ],
    )
    def test_a_period_can_be_chosen(self, benefits: Command, options: list[str], months: list[str]) -> None:
        assert [row["month"] for row in benefits.rows("report", *options)] == months

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--timezone", "Mars/Olympus"], "'Mars/Olympus' is not a timezone"),
            (["--timezone", "Europe"], "'Europe' is not a timezone"),
            (["--timezone", ""], "'' is not a timezone"),
            (["--since", "1899-12-31"], "the year must be between 1900 and 9000."),
            (["--until", "9001-01-01"], "the year must be between 1900 and 9000."),
            (["--currency", "eur"], "'eur' is not a code of three capital letters such as EUR."),
            (["--chart", "."], "File '.' is a directory."),
            (["--chart", "none/chart.svg"], "none/chart.svg: No such file or directory"),
            (["--database", "none.db"], "none.db: there is no such file"),
        ],
    )
    def test_a_mistake_is_one_line(self, benefits: Command, options: list[str], message: str) -> None:
        status, out, err = benefits("report", *options)

        assert (status, out, err.count("\n")) == (2, "", 1)
        assert message in err

    @pytest.mark.parametrize("day", ["1900-01-01", "9000-12-31"])
    @pytest.mark.parametrize("zone", [[], ["--timezone", "Asia/Tokyo"], ["--timezone", "America/New_York"]])
    def test_the_first_and_the_last_day_can_be_named(
        self, benefits: Command, day: str, zone: list[str]
    ) -> None:
        assert benefits("report", "--since", day, "--until", day, *zone)[0] == 0

    def test_a_chart_replaces_the_file_and_the_report_is_printed_as_well(self, benefits: Command) -> None:
        Path("chart.svg").write_text("old" * 10_000, encoding="utf-8")

        assert benefits("report", "--timezone", "UTC", "--chart", "chart.svg", "--currency", "EUR") == (
            0,
            "\n".join(
                line + ("  currency" if number == 0 else "  EUR")
                for number, line in enumerate(REPORT.splitlines())
            )
            + "\n",
            "The chart is in chart.svg.\n",
        )
        texts = texts_of(Path("chart.svg"))
        assert {"2026-11", "2026-12", "2027-01", "2027-02", "2027-03", "EUR"} <= set(texts)
        assert texts[-3:] == ["Gym", "Netflix", "Spotify"]  # the largest first

    def test_without_matplotlib_one_line_says_what_to_install(self, benefits: Command) -> None:
        hide = (
            "import sys; sys.modules['matplotlib'] = None;"
            " from benefits_service import main; sys.argv = ['benefits', 'report', *sys.argv[1:]]; main()"
        )
        charted, listed = (
            subprocess.run(
                [sys.executable, "-c", hide, *options], capture_output=True, text=True, check=False
            )
            for options in (["--chart", "chart.svg"], [])
        )

        assert (charted.returncode, charted.stdout, charted.stderr) == (
            2,
            "",
            "benefits: --chart needs matplotlib; install benefits[chart]\n",
        )
        assert not Path("chart.svg").exists()
        assert (listed.returncode, listed.stdout) == (0, benefits("report")[1])


def texts_of(chart: Path) -> list[str]:
    """Return the texts of a chart; those of the legend are the last ones."""
    return ["".join(text.itertext()) for text in ET.parse(chart).iter(f"{SVG}text")]  # noqa: S314 - our own file


def bars_of(chart: Path) -> list[tuple[float, float]]:
    """Return the bottom and the top of each bar, product by product, in points above the bottom of the first one."""
    paths = (path for path in ET.parse(chart).iter(f"{SVG}path") if "clip-path" in path.attrib)  # noqa: S314
    ordinates = [[float(y) for y in re.findall(r"[ML] \S+ (\S+)", path.attrib["d"])] for path in paths]
    return [(max(ordinates[0]) - max(found), max(ordinates[0]) - min(found)) for found in ordinates]


def spent(month: date, number: int, amount: str, name: str = "Name") -> Spending:
    return Spending(month, f"p{number}", name, 1, Decimal(amount))


MAY, JULY = date(2026, 5, 1), date(2026, 7, 1)


class TestChart:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        """Return where a chart is drawn."""
        return tmp_path / "chart.svg"

    @pytest.mark.parametrize(
        "name",
        [
            *(
                "$",
                "a$b$c",
                r"\$x^2$",
                r"\alpha",
                "$\\frac{$",
                "<&>\"'",
                "]]>",
                "</text><script>alert(1)</script>",
            ),
            *("\U0001f469\u200d\U0001f680", "Größe", "\u202eabc", "=1+1", "a  b", "%d {x}", "n" * 200),
        ],
    )
    def test_a_name_is_text_as_it_is(self, file: Path, name: str) -> None:
        draw([spent(MAY, 1, "5", name)], file, None)

        assert texts_of(file)[-1] == name

    @pytest.mark.parametrize("name", ["_", "_name", "_$_", "__"])
    def test_a_name_with_a_low_line_before_it_is_not_hidden(self, file: Path, name: str) -> None:
        draw([spent(MAY, 1, "5", name)], file, None)

        assert texts_of(file)[-1] == f" {name}"

    @pytest.mark.parametrize("character", ["\ufffe", "\uffff"])
    def test_a_character_that_xml_has_not_is_replaced(self, file: Path, character: str) -> None:
        draw([spent(MAY, 1, "5", f"a{character}")], file, None)

        assert texts_of(file)[-1] == "a\ufffd"

    def test_a_long_name_is_inside_the_picture(self, file: Path) -> None:
        draw([spent(MAY, 1, "5", "n" * 200)], file, None)

        width = ET.parse(file).getroot().attrib["width"]  # noqa: S314
        assert float(width.removesuffix("pt")) > 1400

    def test_it_has_no_script_and_no_reference_to_another_host(self, file: Path) -> None:
        names = [
            "http://example.com/a.png",
            "javascript:alert(1)",
            "url(http://example.com)",
            "<a href='//x'>",
        ]
        draw([spent(MAY, number, "5", name) for number, name in enumerate(names)], file, "EUR")

        for element in ET.parse(file).iter():  # noqa: S314
            assert element.tag.rpartition("}")[2] not in {"script", "image", "a", "foreignObject", "iframe"}
            for name, value in element.attrib.items():
                assert not name.startswith("on")
                assert value.startswith("#") or not name.endswith(("href", "src"))
                assert "url(" not in value.replace("url(#", "")
            if element.tag == f"{SVG}style":
                assert "url" not in (element.text or "")
                assert "import" not in (element.text or "")

    def test_the_same_figures_make_the_same_file(self, file: Path) -> None:
        spending = [spent(MAY, 1, "5.10", "Größe"), spent(JULY, 2, "0.20", "$")]
        draw(spending, file, "EUR")
        first = file.read_bytes()
        draw(spending, file, "EUR")

        assert file.read_bytes() == first

    @pytest.mark.parametrize(("count", "named"), [(1, 1), (9, 9), (10, 9), (30, 9)])
    def test_nine_products_have_a_part_of_their_own(self, file: Path, count: int, named: int) -> None:
        draw([spent(MAY, number, f"{100 - number}", f"N{number}") for number in range(count)], file, None)

        others = ["all others"] if count > named else []
        assert [text for text in texts_of(file) if text[0] == "N"] == [
            f"N{number}" for number in range(named)
        ]
        assert texts_of(file)[-len(others or "1") :] == (others or [f"N{count - 1}"])

    def test_a_bar_is_as_high_as_what_was_spent(self, file: Path) -> None:
        """Ten products in two months; the tenth and eleventh are drawn as one part."""
        amounts = {number: Decimal(number) for number in range(1, 12)}
        spending = [
            spent(month, number, str(amount)) for month in (MAY, JULY) for number, amount in amounts.items()
        ]
        draw(spending, file, None)

        bars = bars_of(file)
        unit = bars[0][1] / 11
        in_may, in_june, in_july = bars[::3], bars[1::3], bars[2::3]
        tops = list(accumulate([*range(11, 2, -1), 3]))
        assert [top / unit for _, top in in_may] == pytest.approx(tops, abs=1e-3)
        assert [bottom for bottom, _ in in_may] == [0, *(top for _, top in in_may[:-1])]
        assert in_july == in_may
        assert {top - bottom for bottom, top in in_june} == {0}

    def test_months_without_orders_are_shown(self, file: Path) -> None:
        draw([spent(date(2026, 11, 1), 1, "5"), spent(date(2027, 2, 1), 1, "5")], file, None)

        assert texts_of(file)[:4] == ["2026-11", "2026-12", "2027-01", "2027-02"]

    @pytest.mark.parametrize(("months", "slanted"), [(9, False), (10, True)])
    def test_many_months_are_written_at_a_slant(self, file: Path, months: int, *, slanted: bool) -> None:
        draw([spent(date(2026, month, 1), 1, "5") for month in range(1, months + 1)], file, None)

        assert ("rotate(-45" in file.read_text(encoding="utf-8")) is slanted

    @pytest.mark.parametrize(
        ("amount", "label"),
        [("1", "0.2"), ("0.03", "0.005"), ("5000", "2,000"), ("9999999999.99", "8,000,000,000")],
    )
    def test_the_axis_is_labelled_in_full_numbers(self, file: Path, amount: str, label: str) -> None:
        draw([spent(MAY, 1, amount)], file, None)

        assert label in texts_of(file)

    def test_free_products_alone_make_a_chart(self, file: Path) -> None:
        draw([spent(MAY, 1, "0", "Flu vaccination")], file, None)

        assert texts_of(file)[-1] == "Flu vaccination"

    def test_without_orders_the_chart_is_empty(self, file: Path) -> None:
        draw([], file, None)

        assert bars_of(file) == []
        assert "Spent on benefits, by month" in texts_of(file)


@pytest.mark.usefixtures("database")
def test_a_chart_replaces_nothing_but_an_svg_file(benefits: Command) -> None:
    before = Path("benefits.db").read_bytes()
    status, out, err = benefits("report", "--chart", "benefits.db")

    assert (status, out) == (2, "")
    assert "benefits.db is not the name of an SVG file, such as 2026.svg." in err
    assert Path("benefits.db").read_bytes() == before


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("command", ["report", "orders"])
def test_a_period_that_ends_before_it_begins_is_a_mistake(benefits: Command, command: str) -> None:
    status, out, err = benefits(command, "--since", "2026-11-02", "--until", "2026-11-01")

    assert (status, out) == (2, "")
    assert "--since is later than --until." in err
