"""The running service as a real browser sees it: from pages of another origin, of a foreign one, and its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from contract.chromium import address, chromium, require_chromium
from contract.running import Service, running
from waiting import A_LONG_TIME

FRONTEND = Path(__file__).parent / "frontend"

require_chromium("CORS and the frontend, as a browser sees them")


class _Pages(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def pages() -> Iterator[int]:
    """Return the port of a server of the frontend, which has nothing to do with the service."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Pages, directory=FRONTEND))
    with server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def origin(pages: int) -> str:
    """Return the origin whose pages may call the service."""
    return f"http://127.0.0.1:{pages}"


@pytest.fixture(scope="module")
def foreign_origin(pages: int) -> str:
    """Return an origin whose pages may not. The server is the same; to a browser this is another site."""
    return f"http://localhost:{pages}"


@pytest.fixture(scope="module")
def service(origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service that pages of one other origin may call."""
    with running(tmp_path_factory.mktemp("cors") / "benefits.db", "--cors-origin", origin) as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service that serves the frontend beside the API."""
    database = tmp_path_factory.mktemp("frontend") / "benefits.db"
    with running(database, "--frontend", str(FRONTEND)) as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return the browser."""
    with chromium() as launched:
        yield launched


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Return a page with nothing in its cache."""
    with browser.new_context() as context:
        context.set_default_timeout(A_LONG_TIME * 1000)
        yield context.new_page()


def visit(page: Page, origin: str, api: str) -> None:
    """Open the frontend of an origin, and have it call the API elsewhere."""
    page.goto(f"{origin}/?api={quote(api, safe='')}")


def sign_in(page: Page, name: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Sign in").click()


def order(page: Page, *products: str) -> None:
    for product in products:
        page.get_by_label(product).check()
    page.get_by_role("button", name="Order").click()


def sees(page: Page, part: str, text: str) -> None:
    """Wait until a part of the page visibly contains this text."""
    expect(page.locator(f"#{part}")).to_have_text(text)


def draft(user_id: str) -> str:
    """Return the body of an order."""
    return json.dumps({"order": {"items": ["netflix"], "user_id": user_id}})


def outcome_of_fetch(page: Page, url: str, **options: object) -> str:
    """Let a page fetch something by script, and return what the script gets to read: text, or an error's name."""
    script = "([url, how]) => fetch(url, how).then(answer => answer.text()).catch(error => error.name)"
    outcome: str = page.evaluate(script, [url, options])
    return outcome


class TestPageOfAnotherOrigin:
    @pytest.fixture
    def frontend(self, page: Page, service: Service, origin: str) -> Page:
        """Return the frontend as it calls the API at the root, which the React one does."""
        visit(page, origin, address(service))
        return page

    @pytest.mark.parametrize("name", ["José", "John Doe", "\U0001f469\u200d\U0001f680", "a/b", "%"])
    def test_it_signs_in_by_a_name_as_it_was_typed(self, frontend: Page, name: str) -> None:
        sign_in(frontend, name)

        sees(frontend, "greeting", f"Hello, {name}")

    def test_an_empty_user_name_is_refused(self, frontend: Page) -> None:
        sign_in(frontend, "")

        sees(frontend, "error", "invalid_user_id")

    def test_it_adds_prices_up_as_numbers(self, frontend: Page) -> None:
        sign_in(frontend, "adder")
        frontend.get_by_label("Public transport pass").check()
        frontend.get_by_label("Bike leasing").check()

        sees(frontend, "total", "150.25")

    @pytest.mark.parametrize(("prefix", "name"), [("", "ann"), ("/api", "ben")])
    def test_it_orders_and_reads_what_is_left(
        self, page: Page, service: Service, origin: str, prefix: str, name: str
    ) -> None:
        visit(page, origin, address(service) + prefix)
        sign_in(page, name)
        sees(page, "balance", "500")
        order(page, "Netflix", "Spotify")

        sees(page, "owned", "netflix, spotify")
        sees(page, "balance", "378.02")

    def test_the_same_order_from_a_second_tab_is_refused(self, frontend: Page) -> None:
        sign_in(frontend, "twin")
        frontend.get_by_label("Netflix").check()
        other = frontend.context.new_page()
        other.goto(frontend.url)
        sign_in(other, "twin")
        order(other, "Netflix")
        sees(other, "balance", "424.01")
        frontend.bring_to_front()  # a hidden tab is slow
        order(frontend)

        sees(frontend, "error", "products_already_purchased")

    def test_the_catalogue_is_sent_once_and_then_revalidated(self, frontend: Page) -> None:
        answers = []
        for _ in range(2):
            with frontend.expect_response("**/products") as answer:
                sign_in(frontend, "reader")
            answers.append(answer.value)

        assert [answer.text() for answer in answers] == [answers[0].text()] * 2
        sizes = [answer.request.sizes()["responseBodySize"] for answer in answers]
        assert sizes == [len(answers[0].body()), 0]

    def test_no_cache_keeps_a_user(self, page: Page, service: Service, origin: str) -> None:
        """Not even for a page that is content with an answer of any age."""
        page.goto(origin)
        user = f"{address(service)}/users/changing"
        outcome_of_fetch(page, user)
        service.order("changing", "netflix")

        assert '"balance":424.01' in outcome_of_fetch(page, user, cache="force-cache")

    def test_it_may_not_send_credentials(self, page: Page, service: Service, origin: str) -> None:
        page.goto(origin)

        assert outcome_of_fetch(page, f"{address(service)}/products", credentials="include") == "TypeError"


class TestPageOfAForeignOrigin:
    def test_it_can_not_sign_a_user_in(self, page: Page, service: Service, foreign_origin: str) -> None:
        visit(page, foreign_origin, address(service))
        sign_in(page, "johndoe")

        sees(page, "error", "Failed to fetch")
        expect(page.locator("#signed-in")).to_be_hidden()

    @pytest.mark.parametrize("path", ["/users/johndoe", "/api/products"])
    def test_it_can_not_read_the_response_to_a_simple_request(
        self, page: Page, service: Service, foreign_origin: str, path: str
    ) -> None:
        page.goto(foreign_origin)

        assert outcome_of_fetch(page, address(service) + path) == "TypeError"

    def test_its_preflight_of_an_order_is_refused(
        self, page: Page, service: Service, foreign_origin: str
    ) -> None:
        page.goto(foreign_origin)
        kind = {"Content-Type": "application/json"}
        outcome_of_fetch(page, f"{address(service)}/orders", method="POST", headers=kind, body=draft("asked"))

        assert service.user("asked")["product_ids"] == []

    def test_an_order_without_a_content_type_is_sent_without_preflight_and_not_placed(
        self, page: Page, service: Service, foreign_origin: str
    ) -> None:
        page.goto(foreign_origin)
        kind = page.evaluate(
            """([url, order]) => fetch(url, {method: "POST", mode: "no-cors", body: new Blob([order])})
               .then(answer => answer.type)""",
            [f"{address(service)}/orders", draft("untyped")],
        )

        assert kind == "opaque"  # so it was sent and answered
        assert service.user("untyped")["product_ids"] == []

    def test_a_form_that_contains_an_order_is_sent_without_preflight_and_places_none(
        self, page: Page, service: Service, foreign_origin: str
    ) -> None:
        page.goto(foreign_origin)
        page.set_content(
            f"""<form method="post" enctype="text/plain" action="{address(service)}/orders">
            <input name='{draft("lured")[:-1]},"' value='":0}}'><button>Win a prize</button></form>"""
        )
        page.get_by_role("button").click()

        expect(page.locator("body")).to_contain_text("unsupported_media_type")
        assert service.user("lured")["product_ids"] == []


class TestBuiltFrontend:
    @pytest.fixture
    def frontend(self, page: Page, site: Service) -> Page:
        """Return what the service has at its root."""
        page.goto(address(site))
        return page

    def test_it_orders_from_the_origin_that_it_came_from(self, frontend: Page) -> None:
        sign_in(frontend, "jo")
        order(frontend, "Netflix")

        sees(frontend, "owned", "netflix")
        sees(frontend, "balance", "424.01")

    def test_its_style_sheet_is_applied(self, frontend: Page) -> None:
        expect(frontend.locator("h1")).to_have_css("color", "rgb(0, 100, 80)")

    def test_a_second_visit_revalidates_the_page_and_requests_no_immutable_file(self, frontend: Page) -> None:
        second = frontend.context.new_page()
        second.goto(frontend.url)
        transfers = second.evaluate(
            """["navigation", "resource"].flatMap(kind => performance.getEntriesByType(kind))
               .map(entry => [new URL(entry.name).pathname, entry.transferSize])"""
        )

        # Resource Timing: 300 for an answer without its body, 0 for none.
        assert dict(transfers) == {
            "/": 300,
            "/static/css/main.5f1c09be.css": 0,
            "/static/js/main.8f2b1c3d.js": 0,
        }

    @pytest.mark.parametrize("path", ["/index.html", "/users/jo"])
    def test_a_file_of_another_type_is_not_run_as_a_script(self, frontend: Page, path: str) -> None:
        script = """path => new Promise(resolve => {
            const script = document.createElement("script");
            script.onload = () => resolve("run");
            script.onerror = () => resolve("refused");
            document.head.append(Object.assign(script, {src: path}));
        })"""

        assert frontend.evaluate(script, path) == "refused"

    def test_any_other_path_is_not_found_in_json_and_not_the_frontend(
        self, page: Page, site: Service
    ) -> None:
        answer = page.goto(f"{address(site)}/somewhere")

        assert answer
        assert (answer.status, answer.json()) == (404, {"error": "not_found"})


class TestDocs:
    @pytest.fixture
    def problems(self, page: Page, service: Service) -> list[str]:
        """Return a list of all that goes wrong in the page: errors, violations of its policy, requests to elsewhere."""
        found: list[str] = []

        def note_request(request: Request) -> None:
            if not request.url.startswith((f"{address(service)}/", "data:")):
                found.append(f"request to {request.url}")

        page.on("console", lambda message: found.append(message.text))
        page.on("pageerror", lambda error: found.append(str(error)))
        page.on("request", note_request)
        return found

    @pytest.mark.parametrize("prefix", ["", "/api"])
    def test_an_order_is_placed_by_trying_it_out(
        self, page: Page, service: Service, problems: list[str], prefix: str
    ) -> None:
        user_id = f"reader-of{prefix.replace('/', '-')}-docs"
        page.goto(f"{address(service)}{prefix}/docs")
        operation = page.locator("#operations-orders-placeOrder")
        operation.get_by_role("button", name="Place an order").click()
        operation.get_by_role("button", name="Try it out").click()
        operation.get_by_role("textbox").fill(draft(user_id))
        operation.get_by_role("button", name="Execute").click()

        response = operation.locator(".live-responses-table")
        expect(response.locator("tbody .response-col_status")).to_have_text("200")
        expect(response).to_contain_text("75.99")
        expect(operation.locator(".request-url")).to_contain_text(f"{address(service)}{prefix}/orders")
        assert service.user(user_id)["product_ids"] == ["netflix"]
        assert problems == []

    def test_every_operation_and_schema_can_be_read(
        self, page: Page, service: Service, problems: list[str]
    ) -> None:
        described = service.request("GET", "/api/openapi.json").json["paths"]
        page.goto(f"{address(service)}/api/docs")
        operations = page.locator(".opblock")
        expect(operations).to_have_count(sum(map(len, described.values())))
        for unfolded in operations.all():
            unfolded.locator(".opblock-summary-control").click()
            expect(unfolded.locator(".responses-table")).to_be_visible()
        operation = page.locator("#operations-orders-placeOrder")
        for schema in operation.get_by_role("tab", name="Schema").all():
            schema.click()

        expect(operation.get_by_text("OrderRequest")).to_be_visible()
        assert problems == []

    def test_behind_an_identity_it_sends_the_name_that_a_proxy_would(
        self, page: Page, tmp_path: Path
    ) -> None:
        with running(tmp_path / "benefits.db", "--identity-header", "X-Forwarded-User") as service:
            page.goto(f"{address(service)}/docs")
            page.get_by_role("button", name="Authorize").click()
            dialog = page.locator(".modal-ux")
            dialog.get_by_role("textbox").fill("johndoe")
            dialog.get_by_role("button", name="Apply credentials").click()
            dialog.get_by_role("button", name="Close").last.click()
            operation = page.locator("#operations-users-getUser")
            operation.get_by_role("button", name="Get a user").click()
            operation.get_by_role("button", name="Try it out").click()
            operation.get_by_role("button", name="Execute").click()

            response = operation.locator(".live-responses-table")
            expect(response.locator("tbody .response-col_status")).to_have_text("200")
            expect(response).to_contain_text("johndoe")

    @pytest.mark.parametrize("width", [360, 1280])
    def test_it_fits_into_a_screen(self, page: Page, service: Service, width: int) -> None:
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(f"{address(service)}/api/docs")
        operation = page.locator("#operations-orders-placeOrder")
        operation.get_by_role("button", name="Place an order").click()
        expect(operation.locator(".responses-table")).to_be_visible()

        assert page.evaluate("document.documentElement.scrollWidth") <= width

    def test_a_second_visit_transfers_no_file_again(self, page: Page, service: Service) -> None:
        page.goto(f"{address(service)}/docs")
        expect(page.locator(".opblock").first).to_be_visible()
        page.reload()
        expect(page.locator(".opblock").first).to_be_visible()
        sizes = page.evaluate(
            """performance.getEntriesByType("resource").map(entry => [new URL(entry.name).pathname, entry.transferSize])"""
        )

        # Resource Timing: 300 for an answer without its body.
        assert {size for _, size in sizes} == {300}
        assert "/docs/swagger-ui-bundle.js" in dict(sizes)
