"""The description of the API: it is valid, it says what the types and the error table say, and it can't drift."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from benefits_core import InvalidUserIdError, MemoryStore, OrderRefusedError, UseCases
from benefits_core.values import normal_user_id
from benefits_http import benefits_blueprint, create_app, errors, wire
from benefits_http.errors import ANSWERS, Answer
from benefits_http.openapi import WHITE_SPACE, DescribedError, add_errors, describe, operations
from benefits_service.middleware.identity import describe_identity
from benefits_service.middleware.metrics import describe_metrics
from benefits_service.middleware.request_log import describe_request_ids

DOCUMENT = describe()
RESPONSES = DOCUMENT["components"]["responses"]
OPERATIONS = operations(DOCUMENT)
ORDER = DOCUMENT["paths"]["/orders"]["post"]
TABLE = [
    *ANSWERS.values(),
    *(value for value in vars(errors).values() if isinstance(value, Answer)),
    *(Answer(status, code) for status, code in errors.HTTP_CODES.items()),
]


@pytest.fixture
def client() -> FlaskClient:
    app: Flask = create_app(UseCases.over(MemoryStore()))
    return app.test_client()


def is_valid(schema: Any, value: object) -> bool:
    """Tell whether a value is as a schema of the document says."""
    return bool(OAS31Validator({**schema, "components": DOCUMENT["components"]}).is_valid(value))


def matches(schema: Any, name: str) -> bool:
    """Tell whether a name is as one of the ways of its schema says."""
    # In the dialect of JSON Schema, unlike in Python's, a dollar is the very end, even after a line feed.
    return any(
        len(name) <= way.get("maxLength", len(name)) and re.search(way["pattern"].replace("$", r"\Z"), name)
        for way in schema["anyOf"]
    )


def bodies(node: Any) -> list[tuple[Any, Any]]:
    """Return the schema and the value of each example below a part of the document."""
    if isinstance(node, list):
        return [found for child in node for found in bodies(child)]
    if not isinstance(node, dict):
        return []
    own = (
        [(node["schema"], example["value"]) for example in node.get("examples", {}).values()]
        if "schema" in node
        else []
    )
    return own + bodies(list(node.values()))


def error_codes(response: Any) -> set[str]:
    """Return the codes that a response shows; none, if it is a success."""
    return {value["error"] for _, value in bodies(response) if "error" in value}


def resolved(reference: dict[str, str]) -> Any:
    """Return the response that a reference means."""
    return RESPONSES[reference["$ref"].removeprefix("#/components/responses/")]


def test_it_is_openapi(client: FlaskClient) -> None:
    validate(client.get("/api/openapi.json").get_json())


def test_it_is_openapi_also_with_all_that_the_service_adds() -> None:
    document = describe()
    describe_metrics(document)
    describe_identity(document, "X-Forwarded-User")
    describe_request_ids(document)

    validate({**document, "servers": [{"url": "/api"}]})
    assert all(
        "X-Request-ID" in response["headers"] for response in document["components"]["responses"].values()
    )


def test_it_is_the_callers_own() -> None:
    mine = describe()
    mine["components"]["responses"]["user"]["headers"]["Cache-Control"]["schema"].clear()

    assert describe() == DOCUMENT


class TestEndpoints:
    def test_every_route_is_described_and_every_path_is_a_route(self) -> None:
        app = Flask(__name__, static_folder=None)
        app.register_blueprint(benefits_blueprint(UseCases.over(MemoryStore())))
        routes = {
            (re.sub("<.*>", "{user_id}", rule.rule), method.lower())
            for rule in app.url_map.iter_rules()
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        }

        described = {(path, method) for path, item in DOCUMENT["paths"].items() for method in item}
        assert routes - {("/users", "get")} == described  # which is a user whose name is empty

    def test_each_has_an_id_a_tag_and_a_summary(self) -> None:
        tags = {tag["name"] for tag in DOCUMENT["tags"]}

        assert len(OPERATIONS) == sum(map(len, DOCUMENT["paths"].values()))
        assert all(
            set(operation["tags"]) <= tags and operation["summary"] for operation in OPERATIONS.values()
        )

    @pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
    @pytest.mark.parametrize("prefix", ["", "/api"])
    def test_the_description_answers_as_everything_does(
        self, client: FlaskClient, prefix: str, path: str
    ) -> None:
        got, head = client.get(prefix + path), client.head(prefix + path)
        assert (got.status_code, head.status_code, head.data) == (200, 200, b"")
        assert head.headers == got.headers
        assert got.headers["Cache-Control"] == "no-cache"
        assert got.headers["X-Content-Type-Options"] == "nosniff"
        wrong = client.post(prefix + path)
        assert (wrong.status_code, wrong.get_json()) == (405, {"error": "method_not_allowed"})
        assert client.get(f"{prefix}{path}/").get_json() == {"error": "not_found"}

    def test_what_other_methods_are_answered_is_so(self, client: FlaskClient) -> None:
        words = DOCUMENT["info"]["description"]

        assert "A path with GET has HEAD too" in words
        assert client.head("/products").status_code == 200
        assert "OPTIONS is answered with `Allow`" in words
        assert client.options("/orders").headers["Allow"]
        assert "Any other method is 405" in words
        assert {client.head("/orders").status_code, client.patch("/orders").status_code} == {405}


class TestErrors:
    @pytest.mark.parametrize("answer", TABLE, ids=lambda answer: answer.code)
    def test_each_of_the_table_is_described_with_its_status(self, answer: Answer) -> None:
        answering = [response for response in RESPONSES.values() if answer.code in error_codes(response)]
        assert answering
        assert all(set(answer.headers) < set(response["headers"]) for response in answering)
        statuses = {
            status
            for operation in OPERATIONS.values()
            for status, reference in operation["responses"].items()
            if answer.code in error_codes(resolved(reference))
        }
        # No operation has the wrong method: that answer belongs to the path.
        assert statuses == {str(answer.status)} - {"405"}

    def test_one_that_nobody_described_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        refusal = type("TooLateError", (OrderRefusedError,), {})
        monkeypatch.setitem(ANSWERS, refusal, Answer(400, "too_late"))

        with pytest.raises(KeyError, match="too_late"):
            describe()

    def test_a_changed_status_is_described(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(ANSWERS, InvalidUserIdError, Answer(422, "invalid_user_id"))

        assert "422" in operations(describe())["getUser"]["responses"]

    @pytest.mark.parametrize(
        "code", ["products_not_found", "insufficient_balance", "invalid_user_id", "not_found"]
    )
    def test_what_never_carries_a_detail_is_described_so(self, code: str) -> None:
        for response in RESPONSES.values():
            if code in error_codes(response):
                schema = response["content"]["application/json"]["schema"]
                assert is_valid(schema, {"error": code})
                for wrong in ({"error": code, "detail": "x"}, {"error": code, "more": 1}, {"error": "x"}, {}):
                    assert not is_valid(schema, wrong)

    def test_a_detail_is_shown_as_the_service_words_it(self, client: FlaskClient) -> None:
        body = b'{"order":{"items":[1],"user_id":"jo"}}'
        answers = [
            client.post("/orders", data=body, content_type="application/json"),
            client.post("/orders", data=body.ljust(wire.MAX_BODY_BYTES + 1), content_type="application/json"),
            client.post("/orders", data=body, content_type="text/plain"),
        ]
        shown = [
            value
            for status in ("400", "413", "415")
            for _, value in bodies(resolved(ORDER["responses"][status]))
        ]

        assert all(answer.get_json() in shown for answer in answers)


class TestBodies:
    @pytest.mark.parametrize(("schema", "example"), bodies(DOCUMENT))
    def test_every_example_is_as_its_schema_says(self, schema: Any, example: Any) -> None:
        assert is_valid(schema, example)

    @pytest.mark.parametrize(
        ("schema", "example"),
        [(schema, example) for schema, example in bodies(DOCUMENT) if "$ref" in schema],
        ids=lambda value: str(value)[:60],
    )
    def test_the_types_read_every_example_and_write_it_again(self, schema: Any, example: Any) -> None:
        kind = getattr(wire, schema["$ref"].rpartition("/")[2])
        encoded = msgspec.json.encode(example)

        assert wire.encode(msgspec.json.decode(encoded, type=kind)) == encoded

    def test_the_types_write_nothing_that_their_schemas_do_not_know(self) -> None:
        for schema, example in bodies(DOCUMENT):
            if "$ref" in schema:
                grown = {**example, "more": 1}
                assert is_valid(schema, grown) == (schema == {"$ref": "#/components/schemas/OrderRequest"})

    @pytest.mark.parametrize(
        ("price", "fits"),
        [
            (0, True),
            (75.99, True),
            (9_999_999_999.99, True),
            (-0.01, False),
            (10**10, False),
            ("75.99", False),
        ],
    )
    def test_money_is_a_number(self, price: object, fits: bool) -> None:  # noqa: FBT001 - a column of the table
        catalogue = {"products": [{"id": "gym", "name": "Gym", "price": price}]}

        assert is_valid({"$ref": "#/components/schemas/ProductList"}, catalogue) == fits

    def test_an_order_has_as_many_items_as_are_read(self) -> None:
        for count, fits in ((wire.MAX_ITEMS, True), (wire.MAX_ITEMS + 1, False)):
            body = {"order": {"items": ["gym"] * count, "user_id": "jo"}}
            assert is_valid({"$ref": "#/components/schemas/OrderRequest"}, body) == fits

    def test_every_field_has_words_for_people(self) -> None:
        for name, schema in DOCUMENT["components"]["schemas"].items():
            assert "description" in schema, name
            for field, declared in schema["properties"].items():
                assert {"$ref", "description", "enum"} & set(declared) or "items" in declared, (name, field)


class TestUserIds:
    # What the rule is about, more often than chance has it.
    names = st.text(st.sampled_from(" \t\u2003\x85\x1c\x00\n\ufeff/aé😀\u200d"), max_size=8) | st.text()
    lengths = st.integers(60, 70).map("x".__mul__)

    def test_white_space_is_what_python_trims(self) -> None:
        white = "".join(char for char in map(chr, range(sys.maxunicode + 1)) if char.isspace())
        assert re.fullmatch(f"[{WHITE_SPACE}]+", white)
        assert len(re.findall(f"[{WHITE_SPACE}]", "".join(map(chr, range(sys.maxunicode + 1))))) == len(white)

    @given(name=(names | lengths).map(lambda name: unicodedata.normalize("NFC", name)))
    def test_in_an_order_the_pattern_is_the_rule(self, name: str) -> None:
        schema = DOCUMENT["components"]["schemas"]["OrderDraft"]["properties"]["user_id"]
        try:
            normal_user_id(name)
        except InvalidUserIdError:
            assert not matches(schema, name)
        else:
            assert matches(schema, name)

    @given(name=(names | lengths).map(lambda name: unicodedata.normalize("NFC", name)))
    def test_in_a_path_the_pattern_is_what_is_answered(self, name: str) -> None:
        [parameter] = DOCUMENT["paths"]["/users/{user_id}"]["get"]["parameters"]
        client = create_app(UseCases.over(MemoryStore())).test_client()

        status = client.get(f"/users/{quote(name, safe='')}").status_code

        assert matches(parameter["schema"], name) == (status == 200)
        assert status in {200, 400, 404}


class TestWhereItIsMounted:
    @pytest.mark.parametrize(
        ("script_root", "prefix", "url"),
        [
            ("", "", "/"),
            ("", "/api", "/api"),
            ("/company", "", "/company"),
            ("/company", "/perks/v1", "/company/perks/v1"),
            ("", "/für uns", "/f%C3%BCr%20uns"),
        ],
    )
    def test_it_names_that_place(self, script_root: str, prefix: str, url: str) -> None:
        app = Flask(__name__, static_folder=None)
        app.register_blueprint(benefits_blueprint(UseCases.over(MemoryStore())), url_prefix=prefix)
        base = f"http://localhost{script_root}"

        served = app.test_client().get(f"{prefix}/openapi.json", base_url=base).get_json()

        assert served == {**DOCUMENT, "servers": [{"url": url}]}
        page = app.test_client().get(f"{prefix}/docs", base_url=base).get_data(as_text=True)
        assert f'<a href="{url.rstrip("/")}/openapi.json">' in page

    def test_each_mount_has_its_own(self, client: FlaskClient) -> None:
        places = [
            client.get(f"{prefix}/openapi.json").get_json()["servers"] for prefix in ("/api", "", "/api")
        ]

        assert places == [[{"url": "/api"}], [{"url": "/"}], [{"url": "/api"}]]


class TestWhatIsAdded:
    FORBIDDEN = DescribedError(
        Answer(403, "forbidden", {"WWW-Authenticate": "x"}), "You are somebody else.", "You are `jo`."
    )

    def test_an_error_is_added_to_the_operations_named(self) -> None:
        document = describe()

        add_errors(document, [self.FORBIDDEN], to=["getUser", "placeOrder"])

        validate({**document, "servers": [{"url": "/"}]})
        having = {name for name, it in operations(document).items() if "403" in it["responses"]}
        assert having == {"getUser", "placeOrder"}
        added = document["components"]["responses"]["forbidden"]
        assert error_codes(added) == {"forbidden"}
        assert set(added["headers"]) == {"Cache-Control", "WWW-Authenticate"}

    def test_a_status_that_is_described_already_is_not_overwritten(self) -> None:
        gone = DescribedError(Answer(404, "gone"), "It was here.")

        with pytest.raises(ValueError, match="getUser has a response 404 already"):
            add_errors(describe(), [gone], to=["getUser"])

    def test_the_document_given_is_the_one_served(self) -> None:
        document = describe()
        add_errors(document, [self.FORBIDDEN], to=["getUser"])
        client = create_app(UseCases.over(MemoryStore()), document=document).test_client()

        for prefix in ("", "/api"):
            served = json.loads(client.get(f"{prefix}/openapi.json").data)
            assert served["components"] == document["components"]
            assert "You are somebody else." in client.get(f"{prefix}/docs").get_data(as_text=True)
