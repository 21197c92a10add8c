"""The page for employees, as people use it: in a real browser, over a real service."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from benefits_core import OfferProducts, Product
from benefits_sqlite import SqliteStore
from contract.chromium import address, chromium, require_chromium
from contract.running import Service, benefits, running
from waiting import A_LONG_TIME

require_chromium("the page for employees, as a browser shows it")

# The rules of WCAG 2.2 AA that a program can check, and what axe holds to be good practice.
RULES: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
DESKTOP: Final = (1280, 860)
PHONE: Final = (390, 844)
NARROW: Final = (320, 640)
MANY: Final = 2000
# Longer than the page waits until it says that an order has not arrived, in milliseconds.
LONG_AFTER: Final = 90_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return the browser."""
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service for all tests that leave its catalogue as it is."""
    with running(tmp_path_factory.mktemp("page") / "benefits.db", workers=1) as started:
        yield started


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Service]:
    """Return a service for one test, which may change its catalogue."""
    with running(tmp_path / "benefits.db", workers=1) as started:
        yield started


@pytest.fixture
def user_id(request: pytest.FixtureRequest) -> str:
    """Return a user whom no other test has."""
    return re.sub("[^a-z0-9]+", "-", request.node.name)[-40:]


NewPage = Callable[..., Page]


@pytest.fixture
def new_page(browser: Browser) -> Iterator[NewPage]:
    """Return a function that opens a browser with nothing in its cache. No page may have an error, or break its policy."""
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def note(text: str) -> None:
        # A browser says so of each refusal, and of what a test has cut.
        if not text.startswith("Failed to load resource"):
            problems.append(text)

    def open_page(size: tuple[int, int] = DESKTOP, **options: Any) -> Page:
        viewport = {"width": size[0], "height": size[1]}
        context = browser.new_context(viewport=viewport, **{"locale": "en-US"} | options)  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(A_LONG_TIME * 1000)
        context.on("console", lambda message: note(message.text))
        context.on("weberror", lambda error: problems.append(str(error.error)))
        return context.new_page()

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def page(new_page: NewPage) -> Page:
    return new_page()


def sign_in(page: Page, service: Service, user_id: str) -> Page:
    page.goto(address(service))
    page.get_by_label("User name").fill(user_id)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#catalogue-title")).to_be_visible()
    return page


def add(page: Page, *names: str) -> None:
    for name in names:
        page.get_by_role("button", name=f"Add {name}", exact=True).click()


def order(page: Page) -> None:
    page.get_by_role("button", name="Order", exact=True).click()


def dialog(page: Page) -> Locator:
    return page.get_by_role("dialog")


def says(page: Page, title: str, *texts: str) -> None:
    """Wait for the outcome of an order, and for what it says."""
    expect(dialog(page).get_by_role("heading")).to_have_text(title)
    for text in texts:
        expect(dialog(page)).to_contain_text(text)


def left(page: Page, amount: str) -> None:
    expect(page.locator("#left")).to_have_text(amount)


def in_basket(page: Page, *names: str) -> None:
    expect(page.locator("#basket-lines li span:first-child")).to_have_text(list(names))


def return_to_basket(page: Page) -> None:
    page.get_by_role("button", name="Back to the basket").click()


def come_back(page: Page) -> None:
    """Have a page do what it does when a person returns to its tab."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def card(page: Page, name: str) -> Locator:
    return page.locator("#products > li").filter(has=page.get_by_text(name, exact=True))


def orders_of(service: Service, user_id: str) -> list[Any]:
    found: list[Any] = service.request("GET", f"/api/orders?user_id={user_id}").json["orders"]
    return found


def offer(service: Service, *products: Product) -> None:
    """Offer products, and change the prices of those that are offered."""
    with SqliteStore(service.database) as store:
        OfferProducts(store)(products)


class TestSigningIn:
    def test_a_new_user_sees_the_catalogue_and_the_balance(
        self, page: Page, service: Service, user_id: str
    ) -> None:
        sign_in(page, service, user_id)

        expect(page.locator("#products > li")).to_have_count(15)
        expect(page.locator("#balance")).to_have_text("500.00")
        expect(page.locator("#user-id")).to_have_text(user_id)

    @pytest.mark.parametrize("name", ["José", "John Doe", "\U0001f469\u200d\U0001f680", "a/b", "%", "?#&"])
    def test_any_name_may_be_typed(self, page: Page, service: Service, name: str) -> None:
        sign_in(page, service, name)

        expect(page.locator("#user-id")).to_have_text(name)

    @pytest.mark.parametrize("name", ["   ", "x" * 65, ".", ".."])
    def test_a_name_that_can_not_be_one_is_refused_in_words(
        self, page: Page, service: Service, name: str
    ) -> None:
        page.goto(address(service))
        page.get_by_label("User name").fill(name)
        page.get_by_role("button", name="Sign in").click()

        expect(page.get_by_role("alert")).to_contain_text("That can't be a user name.")
        expect(page.get_by_label("User name")).to_be_focused()

    def test_after_a_reload_the_user_and_the_basket_are_as_before(
        self, page: Page, service: Service, user_id: str
    ) -> None:
        add(sign_in(page, service, user_id), "Netflix", "Spotify")
        page.reload()

        in_basket(page, "Netflix", "Spotify")
        left(page, "378.02")

    def test_after_signing_out_nothing_of_the_user_is_left(
        self, page: Page, service: Service, user_id: str
    ) -> None:
        add(sign_in(page, service, user_id), "Netflix")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("User name")).to_have_value("")

        assert page.evaluate("sessionStorage.length + localStorage.length") == 0
        sign_in(page, service, f"{user_id}-2")
        in_basket(page)

    def test_behind_an_identity_nobody_types(self, new_page: NewPage, tmp_path: Path) -> None:
        with running(
            tmp_path / "benefits.db", "--identity-header", "X-Forwarded-User", workers=1, traced=True
        ) as service:
            page = new_page(extra_http_headers={"X-Forwarded-User": "jo"})
            page.goto(address(service))
            add(page, "Netflix")
            order(page)
            says(page, "Thank you, it is yours")
            expect(page.locator("#user-id")).to_have_text("jo")
            expect(page.get_by_role("button", name="Sign out")).to_be_hidden()

            nobody = new_page()
            nobody.goto(address(service))
            expect(nobody.get_by_role("heading", name="You are not signed in")).to_be_focused()

    def test_a_service_that_does_not_answer_can_be_tried_again(
        self, page: Page, service: Service, user_id: str
    ) -> None:
        sign_in(page, service, user_id)
        page.route("**/api/products", lambda route: route.abort())
        page.reload()
        expect(page.get_by_role("heading", name="The service does not answer")).to_be_focused()
        page.unroute_all()
        page.get_by_role("button", name="Try again").click()

        expect(page.get_by_role("heading", name="Catalogue")).to_be_visible()


class TestCatalogue:
    def test_search_ignores_case_and_accents_and_the_sequence_of_words(
        self, page: Page, own: Service
    ) -> None:
        offer(own, Product("cafe", "Café crème, every day", Decimal(9)))
        sign_in(page, own, "jo")
        page.get_by_label("Search").fill("CREME cafe")

        expect(page.locator("#products > li:visible .name")).to_have_text(["Café crème, every day"])
        expect(page.locator("#found")).to_have_text("1 of 16 benefits")

    def test_it_is_sorted(self, page: Page, service: Service, user_id: str) -> None:
        sign_in(page, service, user_id)
        names = page.locator("#products .name")
        for sequence, first, last in (
            ("By name", "Amazon Prime", "Spotify"),
            ("Lowest price first", "Flu vaccination", "Childcare voucher"),
            ("Highest price first", "Childcare voucher", "Flu vaccination"),
            ("As offered", "Netflix", "Flu vaccination"),
        ):
            page.get_by_label("Sort").select_option(sequence)
            expect(names.first).to_have_text(first)
            expect(names.last).to_have_text(last)

    def test_what_is_owned_and_what_is_too_dear_is_marked_and_can_not_be_added(
        self, page: Page, service: Service, user_id: str
    ) -> None:
        service.order(user_id, "childcare-voucher", "meal-card")
        sign_in(page, service, user_id)

        expect(card(page, "Meal card")).to_contain_text("✓ Yours")
        expect(card(page, "Health insurance")).to_contain_text("You need 59.50 more")
        for name in "Meal card", "Health insurance":
            expect(card(page, name).get_by_role("button")).to_be_hidden()

    def test_what_the_basket_leaves_decides_what_is_too_dear(
        self, page: Page, service: Service, user_id: str
    ) -> None:
        sign_in(page, service, user_id)
        add(page, "Childcare voucher", "Home office set")
        expect(card(page, "Meal card")).to_contain_text("You need 19.95 more")
        left(page, "100.05")
        page.get_by_role("button", name="Remove Childcare voucher").click()

        expect(card(page, "Meal card").get_by_role("button")).to_have_text("Add")
        left(page, "350.05")

    def test_a_name_is_text_and_never_markup(self, page: Page, own: Service) -> None:
        name = "<img src=x onerror=alert(1)><b>bold</b>"
        offer(own, Product("markup", name, Decimal(1)))
        sign_in(page, own, "jo")
        add(page, name)
        order(page)

        says(page, "Thank you, it is yours", name)
        assert page.locator("b, #products img").count() == 0

    def test_thousands_of_products_are_found_and_an_addition_touches_few(
        self, page: Page, own: Service
    ) -> None:
        offer(own, *(Product(f"p{n}", f"Benefit number {n}", Decimal(n % 90 + 1)) for n in range(MANY)))
        sign_in(page, own, "jo")
        expect(page.locator("#found")).to_have_text("2,015 benefits")
        page.get_by_label("Search").fill("number 1999")
        expect(page.locator("#products > li:visible")).to_have_count(1)
        page.evaluate(
            """window.touched = new Set();
               new MutationObserver(changes => changes.forEach(change => touched.add(
                   change.target.parentElement?.closest("li") ?? change.target.closest?.("li"))))
                   .observe(document.querySelector("#products"), {subtree: true, attributes: true, childList: true})"""
        )
        # Playwright itself would take half a minute to find this button among thousands by its name.
        page.locator("#products > li:visible button").click()
        in_basket(page, "Benefit number 1999")

        assert page.evaluate("touched.size") == 1

    def test_numbers_and_dates_are_those_of_the_reader(
        self, new_page: NewPage, service: Service, user_id: str
    ) -> None:
        service.order(user_id, "netflix")
        page = sign_in(new_page(locale="de-DE"), service, user_id)
        left(page, "424,01")
        page.get_by_role("link", name="My benefits").click()

        expect(page.locator(".order time")).to_have_text(re.compile(r"\d\d\.\d\d\.\d{4}, \d\d:\d\d"))


class TestOrder:
    def test_it_is_confirmed_and_the_basket_is_empty(
        self, page: Page, service: Service, user_id: str
    ) -> None:
        sign_in(page, service, user_id)
        add(page, "Netflix", "Spotify")
        expect(page.locator("#bar")).to_have_attribute("aria-label", "The basket takes 24% of the balance")
        order(page)

        says(page, "Thank you, it is yours", "Netflix75.99", "It cost 121.98, and 378.02 is left.")
        page.get_by_role("button", name="Continue").click()
        in_basket(page)
        expect(card(page, "Netflix")).to_contain_text("✓ Yours")
        assert service.user(user_id) == {"balance": 378.02, "product_ids": ["netflix", "spotify"]}

    def test_an_empty_basket_orders_nothing(self, page: Page, service: Service, user_id: str) -> None:
        sign_in(page, service, user_id)
        order(page)

        expect(page.locator("#note")).to_have_text("Choose something first.")

    def test_a_double_click_orders_once(self, page: Page, service: Service, user_id: str) -> None:
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.method))
        sign_in(page, service, user_id)
        add(page, "Netflix")
        page.locator("#order").evaluate("button => { button.click(); button.click(); }")

        says(page, "Thank you, it is yours")
        assert sent.count("POST") == 1

    def test_the_same_order_in_two_tabs_is_placed_once(
        self, page: Page, service: Service, user_id: str
    ) -> None:
        other = page.context.new_page()
        for tab in page, other:
            sign_in(tab, service, user_id)
            add(tab, "Netflix", "Spotify")
        order(other)
        says(other, "Thank you, it is yours")
        order(page)

        says(page, "You already have this", "perhaps in another tab", "Nothing was ordered a second time.")
        page.get_by_role("button", name="Continue").click()
        in_basket(page)
        left(page, "378.02")
        assert len(orders_of(service, user_id)) == 1

    def test_a_part_that_was_bought_in_another_tab_leaves_the_basket(
        self, page: Page, service: Service, user_id: str
    ) -> None:
        sign_in(page, service, user_id)
        add(page, "Netflix", "Spotify")
        service.order(user_id, "netflix")
        order(page)

        says(
            page,
            "You already have some of this",
            "Nothing was ordered. Bought before, perhaps in another tab: Netflix.",
        )
        return_to_basket(page)
        in_basket(page, "Spotify")

    def test_what_was_bought_elsewhere_leaves_the_basket_when_a_person_comes_back(
        self, page: Page, service: Service, user_id: str
    ) -> None:
        sign_in(page, service, user_id)
        add(page, "Netflix", "Spotify")
        service.order(user_id, "netflix")
        come_back(page)

        in_basket(page, "Spotify")
        expect(page.locator("#note")).to_have_text("Bought elsewhere, and removed from the basket: Netflix.")

    def test_a_price_that_changes_while_a_person_is_away_is_told(self, page: Page, own: Service) -> None:
        """The page sends the new total from then on, so nobody else would."""
        sign_in(page, own, "jo")
        add(page, "Netflix", "Spotify", "Gym membership")
        offer(own, Product("netflix", "Netflix", Decimal(80)))
        assert benefits("retire", "spotify", "--database", own.location).returncode == 0
        page.get_by_role("button", name="Remove Gym membership").focus()
        come_back(page)

        expect(page.locator("#note")).to_have_text("No longer offered: Spotify. New price: Netflix.")
        in_basket(page, "Netflix", "Gym membership")
        left(page, "360.10")
        expect(page.get_by_role("button", name="Remove Gym membership")).to_be_focused()

    def test_another_price_is_shown_before_anything_is_bought(self, page: Page, own: Service) -> None:
        sign_in(page, own, "jo")
        add(page, "Netflix", "Spotify")
        offer(own, Product("netflix", "Netflix", Decimal(80)))
        order(page)

        says(page, "A price has changed", "Netflix75.99 → 80.00", "Your basket now costs 125.99.")
        assert orders_of(own, "jo") == []
        return_to_basket(page)
        left(page, "374.01")
        order(page)
        says(page, "Thank you, it is yours", "It cost 125.99")

    def test_what_is_no_longer_offered_leaves_the_basket(self, page: Page, own: Service) -> None:
        sign_in(page, own, "jo")
        add(page, "Netflix", "Spotify")
        assert benefits("retire", "netflix", "--database", own.location).returncode == 0
        order(page)

        says(
            page,
            "No longer offered",
            "Nothing was ordered. No longer offered, and removed from the basket: Netflix.",
        )
        return_to_basket(page)
        in_basket(page, "Spotify")

    def test_an_order_that_costs_too_much_meanwhile_says_what_is_left(
        self, page: Page, service: Service, user_id: str
    ) -> None:
        sign_in(page, service, user_id)
        add(page, "Childcare voucher")
        service.order(user_id, "health-insurance", "meal-card")
        order(page)

        says(page, "That is more than you have", "Your balance is 190.50")
        return_to_basket(page)
        expect(page.locator("#left-label")).to_have_text("Too much by")
        left(page, "59.50")


def placed_but_unanswered(route: Route) -> None:
    """Let an order reach the service, and its answer not reach the page."""
    if route.request.method == "POST":
        route.fetch()
        route.abort()
    else:
        route.continue_()


def lose_every_answer(page: Page) -> None:
    """Order. The service places the order, and the page gets no answer about it, neither now nor when it looks for it."""
    page.route("**/api/orders**", placed_but_unanswered)
    page.route("**/api/orders?*", lambda route: route.abort())
    order(page)
    says(page, "Did your order arrive?")


def later(page: Page, title: str) -> None:
    """Let the time of a page pass until the outcome of an order has a title."""

    def is_there() -> bool:
        page.clock.run_for(2_000)
        return dialog(page).get_by_role("heading").inner_text() == title

    wait_for_page(page, is_there)


def wait_for_page(page: Page, condition: Callable[[], bool]) -> None:
    """Wait until something is so, and let the browser do its work meanwhile."""
    deadline = time.monotonic() + A_LONG_TIME
    while not condition():
        assert time.monotonic() < deadline
        page.evaluate("0")


def never_sent(route: Route) -> None:
    """Let no order reach the service."""
    if route.request.method == "POST":
        route.abort()
    else:
        route.continue_()


class TestLostAnswer:
    """The page asks what became of the order. Until it knows, nobody can order again."""

    @pytest.fixture
    def basket(self, page: Page, service: Service, user_id: str) -> Page:
        """Return a page with something in the basket. Only ``later`` moves its time."""
        page.add_init_script("AbortSignal.timeout = () => new AbortController().signal")
        page.clock.install()
        sign_in(page, service, user_id)
        add(page, "Netflix")
        page.clock.pause_at(datetime.now(UTC) + timedelta(hours=1))
        return page

    @pytest.fixture
    def sent(self, page: Page) -> list[str]:
        """Return a list of the orders that the page sends."""
        found: list[str] = []
        page.on("request", lambda request: found.append(request.url) if request.method == "POST" else None)
        return found

    @pytest.mark.parametrize("answer", [None, 503, 502])
    def test_an_order_that_arrived_is_found(
        self, basket: Page, service: Service, user_id: str, sent: list[str], answer: int | None
    ) -> None:
        def lose(route: Route) -> None:
            if route.request.method != "POST" or answer is None:
                placed_but_unanswered(route)
            else:
                route.fetch()
                route.fulfill(status=answer, body='{"error": "storage_unavailable"}')

        basket.route("**/api/orders**", lose)
        order(basket)

        says(basket, "Thank you, it is yours", "It cost 75.99, and 424.01 is left.")
        assert len(orders_of(service, user_id)) == len(sent) == 1

    def test_an_order_that_did_not_arrive_is_given_up_only_after_a_while(
        self, basket: Page, service: Service, user_id: str, sent: list[str]
    ) -> None:
        basket.route("**/api/orders**", never_sent)
        order(basket)
        says(basket, "Did your order arrive?")
        expect(dialog(basket).get_by_role("button")).to_have_count(0)
        began = basket.evaluate("performance.now()")
        later(basket, "Your order was not found")

        assert basket.evaluate("performance.now()") - began > 30_000
        assert (orders_of(service, user_id), len(sent)) == ([], 1)
        basket.unroute_all()
        return_to_basket(basket)
        in_basket(basket, "Netflix")
        order(basket)
        says(basket, "Thank you, it is yours")

    def test_it_asks_until_the_network_is_there_again(
        self, basket: Page, service: Service, user_id: str, sent: list[str]
    ) -> None:
        """However long that takes."""
        lose_every_answer(basket)
        for _ in range(5):
            basket.clock.run_for(LONG_AFTER)
            says(basket, "Did your order arrive?")
        basket.unroute_all()
        later(basket, "Thank you, it is yours")

        assert len(orders_of(service, user_id)) == len(sent) == 1

    def test_it_goes_on_asking_after_a_reload_and_no_key_leads_past_it(
        self, basket: Page, service: Service, user_id: str, sent: list[str]
    ) -> None:
        lose_every_answer(basket)
        basket.reload()
        says(basket, "Did your order arrive?")
        for _ in range(3):
            basket.keyboard.press("Escape")
            expect(dialog(basket).get_by_role("heading")).to_be_focused()
        basket.unroute_all()
        later(basket, "Thank you, it is yours")

        in_basket(basket)
        basket.keyboard.press("Escape")
        expect(basket.get_by_role("heading", name="Catalogue")).to_be_focused()
        assert len(orders_of(service, user_id)) == len(sent) == 1

    def test_the_balance_is_right_although_nothing_but_the_orders_can_be_read(
        self, basket: Page, service: Service, user_id: str
    ) -> None:
        lose_every_answer(basket)
        basket.reload()
        says(basket, "Did your order arrive?")
        basket.unroute_all()
        basket.route("**/api/users/**", lambda route: route.abort())
        later(basket, "Thank you, it is yours")

        says(basket, "Thank you, it is yours", "It cost 75.99, and 424.01 is left.")
        assert service.user(user_id)["balance"] == 424.01

    def test_a_service_that_can_not_be_read_does_not_hide_an_order_without_an_answer(
        self, basket: Page
    ) -> None:
        lose_every_answer(basket)
        basket.route("**/api/users/**", lambda route: route.fulfill(status=503, json={}))
        basket.reload()
        expect(basket.locator("#failed-text")).to_contain_text(
            "It is not known yet whether your last order arrived"
        )
        basket.unroute_all()
        basket.get_by_role("button", name="Try again").click()

        says(basket, "Thank you, it is yours")

    def test_an_order_that_arrives_late_is_found_too(
        self, basket: Page, service: Service, user_id: str
    ) -> None:
        basket.route("**/api/orders**", never_sent)
        order(basket)
        says(basket, "Did your order arrive?")
        service.order(user_id, "netflix")

        later(basket, "Thank you, it is yours")

    @pytest.mark.parametrize("answer", ["refused", "redirected"])
    def test_whoever_is_signed_out_meanwhile_is_told_so_and_the_page_goes_on(
        self, basket: Page, answer: str
    ) -> None:
        def lose(route: Route) -> None:
            if route.request.method == "POST":
                placed_but_unanswered(route)
            elif answer == "refused":
                route.fulfill(status=401, json={"error": "unauthenticated"})
            else:
                route.fulfill(status=302, headers={"Location": "/sign-in"})

        basket.route("**/api/orders**", lose)
        order(basket)
        says(basket, "You are not signed in any more", "It is not known yet whether your order arrived.")
        expect(dialog(basket).get_by_role("button")).to_have_count(0)
        basket.unroute_all()
        later(basket, "Thank you, it is yours")

    def test_while_an_order_is_under_way_nothing_else_can_be_done(
        self, basket: Page, service: Service, user_id: str
    ) -> None:
        waiting: list[Route] = []
        basket.route("**/api/orders", lambda route: waiting.append(route))  # noqa: PLW0108 - Playwright marks it
        order(basket)
        says(basket, "Ordering \N{HORIZONTAL ELLIPSIS}")
        wait_for_page(basket, lambda: bool(waiting))
        basket.keyboard.press("Escape")
        expect(dialog(basket).get_by_role("heading")).to_be_focused()
        service.order(user_id, "netflix")
        basket.evaluate("location.hash = '#mine'")
        expect(basket.locator(".order")).to_have_count(1)
        expect(basket.locator("#note")).to_be_empty()
        waiting[0].fulfill(json={"order": {"order_id": "1", "data": {"items": ["netflix"], "total": 75.99}}})

        says(basket, "Thank you, it is yours")
        expect(basket.locator("#note")).to_be_empty()
        assert len(orders_of(service, user_id)) == 1


class TestAnotherUser:
    """Behind an identity, another user may sign in while a tab is open."""

    @pytest.fixture
    def guarded(self, tmp_path: Path) -> Iterator[Service]:
        with running(tmp_path / "benefits.db", "--identity-header", "X-Forwarded-User", workers=1) as started:
            yield started

    @pytest.fixture
    def of_jo(self, new_page: NewPage, guarded: Service) -> Page:
        """Return jo's page, with something in the basket."""
        page = new_page(extra_http_headers={"X-Forwarded-User": "jo"})
        page.goto(address(guarded))
        add(page, "Netflix")
        return page

    def test_an_order_of_the_one_before_is_refused_and_the_page_shows_the_new_one(self, of_jo: Page) -> None:
        of_jo.context.set_extra_http_headers({"X-Forwarded-User": "al"})
        order(of_jo)

        expect(of_jo.locator("#user-id")).to_have_text("al")
        expect(of_jo.locator("#catalogue-title")).to_be_visible()
        in_basket(of_jo)
        left(of_jo, "500.00")

    def test_a_person_who_comes_back_sees_the_new_one(self, of_jo: Page) -> None:
        of_jo.context.set_extra_http_headers({"X-Forwarded-User": "al"})
        come_back(of_jo)

        expect(of_jo.locator("#user-id")).to_have_text("al")
        in_basket(of_jo)

    def test_a_user_whose_sign_in_has_ended_is_told_that_nothing_was_ordered(self, of_jo: Page) -> None:
        of_jo.context.set_extra_http_headers({})
        order(of_jo)

        says(of_jo, "You are not signed in any more", "Nothing was ordered.")


class TestMyBenefits:
    @pytest.fixture
    def mine(self, page: Page, own: Service) -> Page:
        """Return the page of somebody who has ordered twice. The second order was cancelled."""
        own.order("jo", "netflix", "spotify")
        order_id = own.order("jo", "meal-card").json["order"]["order_id"]
        assert benefits("cancel", order_id, "--database", own.location).returncode == 0
        sign_in(page, own, "jo")
        page.get_by_role("link", name="My benefits").click()
        expect(page.locator(".order")).to_have_count(2)
        return page

    def test_it_shows_the_balance_what_i_own_and_my_orders(self, mine: Page) -> None:
        expect(mine.get_by_role("heading", name="My benefits")).to_be_focused()
        expect(mine.locator("#mine-balance")).to_have_text("378.02")
        expect(mine.locator("#mine-spent")).to_have_text("121.98")
        expect(mine.locator("#owned li")).to_have_text(["Netflix", "Spotify"])
        cancelled, kept = mine.locator(".order").all()
        expect(cancelled).to_contain_text("Cancelled")
        expect(cancelled).to_contain_text("Total120.00")
        expect(kept).not_to_contain_text("Cancelled")
        expect(kept.locator("li")).to_have_text(["Netflix75.99", "Spotify45.99"])

    def test_a_retired_product_keeps_its_name(self, page: Page, own: Service) -> None:
        own.order("jo", "netflix")
        assert benefits("retire", "netflix", "--database", own.location).returncode == 0
        sign_in(page, own, "jo")
        page.get_by_role("link", name="My benefits").click()

        expect(page.locator("#owned li")).to_have_text(["Netflix"])
        own.order("jo", "spotify")
        come_back(page)
        expect(page.locator("#owned li")).to_have_text(["Netflix", "Spotify"])

    def test_more_orders_than_one_answer_has_are_all_there(self, page: Page, own: Service) -> None:
        offer(own, *(Product(f"p{n}", f"Pin {n}", Decimal(1)) for n in range(120)))
        for number in range(120):
            own.order("jo", f"p{number}")
        sign_in(page, own, "jo")
        page.get_by_role("link", name="My benefits").click()

        expect(page.locator(".order")).to_have_count(120)
        expect(page.locator("#owned li")).to_have_count(120)
        expect(page.locator("#mine-spent")).to_have_text("120.00")

    def test_the_back_button_leads_to_the_catalogue_as_it_was(
        self, page: Page, service: Service, user_id: str
    ) -> None:
        sign_in(page, service, user_id)
        add(page, "Netflix")
        page.get_by_label("Search").fill("n")
        page.get_by_role("link", name="My benefits").click()
        expect(page.get_by_role("heading", name="My benefits")).to_be_focused()
        page.go_back()

        expect(page.get_by_role("heading", name="Catalogue")).to_be_focused()
        expect(page.get_by_label("Search")).to_have_value("n")
        in_basket(page, "Netflix")
        page.go_forward()
        expect(page).to_have_title("My benefits \N{EN DASH} Benefits")
        page.reload()
        expect(page.get_by_role("heading", name="My benefits")).to_be_visible()

    def test_it_prints_on_one_page_without_what_can_be_clicked(self, mine: Page) -> None:
        mine.emulate_media(media="print")

        for control in "#pages", "#who", "#print":
            expect(mine.locator(control)).to_be_hidden()
        expect(mine.locator("#of-whom")).to_contain_text("jo, ")
        assert len(re.findall(rb"/Type\s*/Page\b", mine.pdf(format="A4"))) == 1


class TestEveryReader:
    """Keyboards, screen readers, small and dark screens."""

    def test_a_keyboard_is_enough(self, page: Page, service: Service, user_id: str) -> None:
        def tab_to(label: str) -> None:
            for _ in range(60):
                page.keyboard.press("Tab")
                focused = page.evaluate(
                    "document.activeElement.ariaLabel ?? document.activeElement.labels?.[0]?.innerText ??"
                    " document.activeElement.innerText"
                )
                if focused == label:
                    return
            raise AssertionError(label)

        page.goto(address(service))
        expect(page.get_by_label("User name")).to_be_visible()
        tab_to("User name")
        page.keyboard.type(user_id)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Catalogue")).to_be_focused()
        tab_to("Search")
        page.keyboard.type("flix")
        tab_to("Add Netflix")
        page.keyboard.press("Space")
        expect(page.get_by_role("button", name="Remove Netflix")).to_be_focused()
        tab_to("Order")
        page.keyboard.press("Enter")
        says(page, "Thank you, it is yours")
        expect(dialog(page).get_by_role("heading")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="Order", exact=True)).to_be_focused()

        assert service.user(user_id)["product_ids"] == ["netflix"]

    def test_the_first_tab_skips_to_the_content(self, page: Page, service: Service) -> None:
        page.goto(address(service))
        expect(page.get_by_label("User name")).to_be_visible()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")

        expect(page.locator("#main")).to_be_focused()

    def test_the_basket_is_two_tabs_away(self, page: Page, service: Service, user_id: str) -> None:
        sign_in(page, service, user_id)
        page.reload()
        expect(page.get_by_role("heading", name="Catalogue")).to_be_visible()
        for _ in range(2):
            page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the basket")).to_be_focused()
        page.keyboard.press("Enter")

        expect(page.locator("#summary")).to_be_focused()

    def test_each_addition_is_said(self, page: Page, service: Service, user_id: str) -> None:
        sign_in(page, service, user_id)
        add(page, "Netflix")

        expect(page.locator("#said")).to_have_text("Netflix added. Left: 424.01")

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("size", [DESKTOP, PHONE])
    def test_axe_finds_nothing_in_any_view(
        self, new_page: NewPage, service: Service, user_id: str, scheme: str, size: tuple[int, int]
    ) -> None:
        page = new_page(size, color_scheme=scheme, reduced_motion="reduce")
        faults = partial(violations, page)
        page.goto(address(service))
        expect(page.get_by_label("User name")).to_be_visible()
        found = {"sign-in": faults()}
        page.get_by_label("User name").fill("x" * 65)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).not_to_be_empty()
        found["refused name"] = faults()
        service.order(user_id, "netflix")
        sign_in(page, service, user_id)
        add(page, "Childcare voucher", "Meal card")
        page.locator("#details").evaluate("details => { details.open = true }")
        found["catalogue"] = faults()
        order(page)
        says(page, "Thank you, it is yours")
        found["answer"] = faults()
        page.get_by_role("link", name="See my benefits").click()
        expect(page.locator(".order")).to_have_count(2)
        found["mine"] = faults()

        assert found == {view: [] for view in found}

    def test_axe_finds_what_is_wrong(self, page: Page, service: Service) -> None:
        """So that the test above can fail."""
        page.goto(address(service))
        expect(page.locator("#name")).to_be_visible()
        page.locator("#name").evaluate("input => input.labels[0].remove()")

        assert "label" in violations(page)

    def test_at_320_pixels_nothing_is_cut_off(
        self, new_page: NewPage, service: Service, user_id: str
    ) -> None:
        page = new_page(NARROW)

        def fits() -> bool:
            widths: list[int] = page.evaluate(
                """[document.documentElement, ...document.querySelectorAll("dialog[open], header, .who button")]
                   .map(part => Math.max(part.scrollWidth, part.getBoundingClientRect().right))"""
            )
            return max(widths) <= NARROW[0]

        page.goto(address(service))
        expect(page.get_by_label("User name")).to_be_visible()
        assert fits()
        sign_in(page, service, f"{user_id}-{'w' * 20}")
        add(page, "Netflix", "Health insurance")
        assert fits()
        order(page)
        says(page, "Thank you, it is yours")
        assert fits()
        page.get_by_role("link", name="See my benefits").click()
        expect(page.locator(".order")).to_have_count(1)
        assert fits()

    @pytest.mark.parametrize("size", [DESKTOP, NARROW])
    def test_what_has_the_focus_is_never_behind_the_basket(
        self, new_page: NewPage, service: Service, user_id: str, size: tuple[int, int]
    ) -> None:
        page = sign_in(new_page(size), service, user_id)
        add(page, "Netflix", "Spotify", "Amazon Prime", "Dental plan", "Gym membership", "Bike leasing")
        page.locator("#details").evaluate("details => { details.open = true }")
        page.get_by_label("Sort").focus()
        for _ in range(12):
            page.keyboard.press("Tab")
            seen = page.evaluate(
                """new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(() => {
                    const box = document.activeElement.getBoundingClientRect();
                    const there = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
                    resolve(there === document.activeElement);
                })))"""
            )
            assert seen

    @pytest.mark.parametrize("size", [DESKTOP, PHONE])
    def test_the_layout_does_not_shift(
        self, new_page: NewPage, service: Service, user_id: str, size: tuple[int, int]
    ) -> None:
        page = new_page(size)
        page.add_init_script(
            """window.shifts = [];
               const keep = entries => window.shifts.push(...entries.map(entry => entry.value));
               const observer = new PerformanceObserver(list => keep(list.getEntries()));
               window.takeShifts = () => { keep(observer.takeRecords()); return shifts; };
               observer.observe({type: "layout-shift", buffered: true})"""
        )
        sign_in(page, service, user_id)
        add(page, "Netflix")
        settled(page)
        first = sum(page.evaluate("takeShifts()"))
        page.reload()
        in_basket(page, "Netflix")
        order(page)
        says(page, "Thank you, it is yours")
        page.get_by_role("link", name="See my benefits").click()
        expect(page.locator(".order")).to_have_count(1)
        settled(page)

        assert first < 0.01
        assert sum(page.evaluate("takeShifts()")) < 0.01


def settled(page: Page) -> None:
    """Wait until a page is drawn."""
    page.evaluate("new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)))")


def violations(page: Page) -> list[str]:
    """Return the ids of the rules that a view breaks."""
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": RULES}})
    return [f"{fault['id']}" for fault in found.response["violations"]]


class TestFirstView:
    def test_it_transfers_less_than_100_kilobytes(self, page: Page, service: Service) -> None:
        page.goto(address(service))
        expect(page.get_by_label("User name")).to_be_visible()
        sizes = page.evaluate(
            """["navigation", "resource"].flatMap(kind => performance.getEntriesByType(kind))
               .map(entry => [new URL(entry.name).pathname, entry.transferSize])"""
        )

        assert {"/", "/page.css", "/page.js", "/client.js", "/icon.svg"} <= dict(sizes).keys()
        assert 0 < sum(size for _, size in sizes) < 100_000

    def test_under_a_path_of_a_proxy_it_works_with_and_without_a_slash(
        self, page: Page, tmp_path: Path
    ) -> None:
        with running(tmp_path / "benefits.db", "--root-path", "/perks", workers=1) as service:
            page.goto(f"{address(service)}/perks")
            page.get_by_label("User name").fill("jo")
            page.get_by_role("button", name="Sign in").click()
            add(page, "Netflix")
            order(page)

            says(page, "Thank you, it is yours")
            assert page.url == f"{address(service)}/perks/"

    def test_no_other_page_may_show_it_in_a_frame(self, browser: Browser, service: Service) -> None:
        with browser.new_context() as context:
            outside = context.new_page()
            outside.set_content(f'<iframe src="{address(service)}/"></iframe>')
            frame = outside.frames[-1]
            wait_for_page(outside, lambda: frame.url.startswith("chrome-error:"))
