"""The OpenAPI document agrees with the wire types, the error table, the routes, the limits and the real responses."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import attrs
import msgspec
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import example, given
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from werkzeug.test import TestResponse

from benefits_core import (
    BenefitsError,
    InvalidUserIdError,
    MemoryStore,
    OfferProducts,
    Product,
    StorageUnavailableError,
    UseCases,
)
from benefits_core.values import MAX_ID_LENGTH, MAX_MONEY, MAX_NAME_LENGTH, normal_user_id
from benefits_http import benefits_blueprint, create_app, errors, wire
from benefits_http.errors import ERROR_SPECS, ErrorSpec
from benefits_http.openapi import Document, describe
from benefits_service.middleware.identity import FORBIDDEN, UNAUTHENTICATED, add_identity_endpoint
from benefits_service.middleware.metrics import Metrics
from benefits_service.openapi import describe_service
from unit.loop_client import logged_client

DOCUMENT = describe()
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = {
    operation["operationId"]: operation for path in DOCUMENT["paths"].values() for operation in path.values()
}
TABLE = [
    *ERROR_SPECS.values(),
    *(value for value in vars(errors).values() if isinstance(value, ErrorSpec)),
    *(ErrorSpec(status, code) for status, code in errors.HTTP_CODES.items()),
]

REQUESTS = {"OrderRequest", "OrderDraft"}
SCALARS = {"Money", "ProductId", "UserId", "UserName", "UserNameInPath"}

# In JSON Schema a dollar matches at the very end; in Python also before a line feed there.
IN_PYTHON = json.loads(json.dumps(DOCUMENT["components"]).replace('$"', r'\\Z"'))


def resolved(node: Any, document: Document = DOCUMENT) -> Any:
    """Return what a reference refers to, and anything else as it is."""
    while "$ref" in node:
        kind, name = node["$ref"].removeprefix("#/components/").split("/")
        node = document["components"][kind][name]
    return node


def is_valid(schema: Any, value: object) -> bool:
    """Tell whether a value is valid against a schema of the document."""
    return bool(OAS31Validator({**schema, "components": IN_PYTHON}).is_valid(value))


def examples(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the schema and the value of each example of a body below a part of the document."""
    if isinstance(node, list):
        for child in node:
            yield from examples(child)
    elif isinstance(node, dict):
        if "schema" in node and "in" not in node:
            yield from ((node["schema"], shown["value"]) for shown in node.get("examples", {}).values())
            if "example" in node:
                yield node["schema"], node["example"]
        yield from examples(list(node.values()))


def error_codes(response: Any) -> set[str]:
    """Return the error codes of a response of the document; none if it is a success."""
    return {value["error"] for _, value in examples(response.get("content", {})) if "error" in value}


def statuses_of(code: str, document: Document) -> set[str]:
    """Return the statuses with which operations of a document answer an error code."""
    return {
        status
        for path in document["paths"].values()
        for operation in path.values()
        for status, response in operation["responses"].items()
        if code in error_codes(resolved(response, document))
    }


def routes(app: Flask) -> set[tuple[str, str]]:
    """Return path and method of each rule of an application, as the document writes them."""
    return {
        (
            re.sub("<(?:[^:>]+:)?name>", "{file}", re.sub("<.*user_id>", "{user_id}", rule.rule)),
            method.lower(),
        )
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


@pytest.fixture
def use_cases() -> UseCases:
    """Return use cases over a store with two products, of which one is too expensive."""
    store = MemoryStore()
    OfferProducts(store)([Product("gym", "Gym", Decimal(20)), Product("yacht", "Yacht", MAX_MONEY)])
    return UseCases.over(store)


@pytest.fixture
def client(use_cases: UseCases) -> FlaskClient:
    return create_app(use_cases).test_client()


class TestDocument:
    def test_it_is_valid_openapi_as_it_is_served(self, client: FlaskClient) -> None:
        validate(client.get("/api/openapi.json").get_json())

    @pytest.mark.parametrize("identity_header", [None, "X-Forwarded-User"])
    def test_it_is_valid_openapi_with_what_the_service_adds(self, identity_header: str | None) -> None:
        validate(describe_service(identity_header))

    def test_every_call_returns_another_document(self) -> None:
        describe()["components"]["responses"].clear()

        assert describe() == DOCUMENT


class TestEndpoints:
    def test_every_route_is_described_and_every_described_path_is_a_route(self) -> None:
        app = Flask(__name__, static_folder=None)
        app.register_blueprint(benefits_blueprint(UseCases.over(MemoryStore())))
        described = {(path, method) for path, item in DOCUMENT["paths"].items() for method in item}

        # /users is the user whose name is empty.
        assert routes(app) - {("/users", "get")} == described

    def test_the_service_describes_what_it_adds(self) -> None:
        app = Flask(__name__, static_folder=None)
        Metrics().expose_on(app)
        add_identity_endpoint(app)
        described = describe_service()["paths"]
        added = {(path, "get") for path in described.keys() - DOCUMENT["paths"].keys()}

        assert routes(app) == added | {("/api/identity", "get")}

    def test_each_has_an_id_of_its_own_a_tag_and_a_summary(self) -> None:
        tags = {tag["name"] for tag in DOCUMENT["tags"]}

        assert len(OPERATIONS) == sum(map(len, DOCUMENT["paths"].values()))
        assert all(
            set(operation["tags"]) <= tags and operation["summary"] for operation in OPERATIONS.values()
        )

    def test_the_description_of_other_methods_is_true(self, client: FlaskClient) -> None:
        words = " ".join(DOCUMENT["info"]["description"].split())

        assert "A path with GET also has HEAD" in words
        assert client.head("/products").status_code == 200
        assert "OPTIONS lists the methods of a path in `Allow`" in words
        assert client.options("/orders").headers["Allow"]
        assert "Any other method is refused with 405" in words
        assert {client.put("/orders").status_code, client.patch("/orders").status_code} == {405}


class TestErrors:
    @pytest.mark.parametrize("error", TABLE, ids=lambda error: error.code)
    def test_every_error_of_the_table_is_described_with_its_status_and_headers(
        self, error: ErrorSpec
    ) -> None:
        described = [
            response
            for response in DOCUMENT["components"]["responses"].values()
            if error.code in error_codes(response)
        ]

        assert described
        assert all(error.headers.keys() <= response["headers"].keys() for response in described)
        # 405 belongs to a path, and to none of its operations.
        assert statuses_of(error.code, DOCUMENT) == {str(error.status)} - {"405"}

    def test_every_error_described_is_in_the_table(self) -> None:
        described = set().union(*map(error_codes, DOCUMENT["components"]["responses"].values()))

        assert described == {error.code for error in TABLE}

    @pytest.mark.parametrize("error", [UNAUTHENTICATED, FORBIDDEN], ids=lambda error: error.code)
    def test_the_errors_of_an_identity_are_described_only_where_there_is_one(self, error: ErrorSpec) -> None:
        with_identity, without = describe_service("X-Forwarded-User"), describe_service()

        assert statuses_of(error.code, with_identity) == {str(error.status)}
        headers = with_identity["components"]["responses"][error.code]["headers"]
        assert error.headers.keys() <= headers.keys()
        assert error.code not in without["components"]["responses"]

    def test_every_operation_may_fail_unexpectedly(self) -> None:
        described = describe_service("X-Forwarded-User")["paths"].values()

        assert all("500" in operation["responses"] for path in described for operation in path.values())

    @pytest.mark.parametrize("code", sorted({error.code for error in TABLE}))
    def test_only_three_errors_may_carry_a_detail(self, code: str) -> None:
        may = code in {"invalid_request", "request_too_large", "unsupported_media_type"}
        for response in DOCUMENT["components"]["responses"].values():
            if code in error_codes(response):
                schema = response["content"]["application/json"]["schema"]
                assert is_valid(schema, {"error": code})
                assert is_valid(schema, {"error": code, "detail": "x"}) == may
                assert not is_valid(schema, {"error": code, "more": 1})
                assert not is_valid(schema, {"error": "another"})
                assert not is_valid(schema, {})


JSON = "application/json"


def order(*items: object, user_id: str = "jo", **more: object) -> dict[str, Any]:
    """Return the options of a request that orders some items."""
    return {"data": json.dumps({"order": {"items": items, "user_id": user_id} | more}), "content_type": JSON}


@attrs.frozen
class Case:
    """A request to an operation, and the expected response."""

    path: str
    url: str
    status: int
    code: str | None = None
    options: dict[str, Any] = attrs.field(factory=dict)

    @property
    def method(self) -> str:
        """The method, as the document writes it. Only a POST has options."""
        return "post" if self.options else "get"

    def send(self, client: FlaskClient) -> TestResponse:
        """Send the request."""
        return client.open(self.url, method=self.method.upper(), **self.options)


CASES = [
    Case("/users/{user_id}", "/users/jo", 200),
    Case("/users/{user_id}", "/users/%00", 400, "invalid_user_id"),
    Case("/users/{user_id}", "/users/jo/", 404, "not_found"),
    Case("/products", "/products", 200),
    Case("/orders", "/orders", 200, None, order("gym")),
    Case("/orders", "/orders", 400, "products_not_found", order()),
    Case("/orders", "/orders", 400, "products_already_purchased", order("gym", user_id="owner")),
    Case("/orders", "/orders", 200, None, order("gym", expected_total=20.0)),
    Case("/orders", "/orders", 409, "price_changed", order("yacht", expected_total=1)),
    Case("/orders", "/orders", 400, "insufficient_balance", order("yacht")),
    Case("/orders", "/orders", 400, "invalid_request", order(1)),
    Case("/orders", "/orders", 400, "invalid_user_id", order(user_id="")),
    Case("/orders", "/orders", 413, "request_too_large", {"data": b" " * (wire.MAX_BODY_BYTES + 1)}),
    Case("/orders", "/orders", 415, "unsupported_media_type", {"data": b"{}"}),
    Case("/orders", "/orders?user_id=owner", 200),
    Case("/orders", "/orders?user_id=owner&limit=0", 400, "invalid_request"),
    Case("/orders", "/orders?user_id=jo&before=1", 400, "invalid_request"),
    Case("/orders", "/orders?user_id=", 400, "invalid_user_id"),
    Case("/healthz", "/healthz", 200),
    Case("/openapi.json", "/openapi.json", 200),
    Case("/docs", "/docs", 200),
    Case("/docs/{file}", "/docs/swagger-ui.css", 200),
    Case("/docs/{file}", "/docs/swagger-ui.js", 404, "not_found"),
]
# For every operation that calls a use case, what happens if that fails.
FAILURES = [
    (failure, Case(case.path, case.url, status, code, case.options))
    for case in CASES
    if case.status == 200 and case.path in {"/users/{user_id}", "/products", "/orders", "/healthz"}
    for failure, status, code in [
        (StorageUnavailableError("it is locked"), 503, "storage_unavailable"),
        (BenefitsError("unexpected"), 500, "internal_error"),
    ]
]


class TestResponses:
    def check(self, response: TestResponse, path: str, method: str = "get") -> None:
        """Check that the document describes a response of an operation: its status, headers, type and body."""
        operation = DOCUMENT["paths"][path][method]
        self.check_described(response, resolved(operation["responses"][str(response.status_code)]))

    def check_described(self, response: TestResponse, described: Any) -> None:
        """Check that a response has the headers, type and body of a response in the document."""
        general = {
            "Content-Length",
            "Content-Type",
            "Content-Security-Policy",
            "Vary",
            "X-Content-Type-Options",
        }
        assert {*response.headers.keys()} - general == described["headers"].keys()
        for name, reference in described["headers"].items():
            value = response.headers.get(name)
            schema = resolved(reference)["schema"]
            assert is_valid(schema, int(value) if value and value.isdigit() else value), name
        content = described.get("content", {})
        assert bool(content) == (response.status_code != 304)
        if content:
            schema = content[response.mimetype].get("schema", {})
            assert is_valid(schema, response.get_json() if response.is_json else response.text)

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_a_response_is_as_described(self, client: FlaskClient, case: Case) -> None:
        assert client.post("/orders", **order("gym", user_id="owner")).status_code == 200

        response = case.send(client)

        assert response.status_code == case.status
        assert (response.get_json()["error"] if case.code else None) == case.code
        self.check(response, case.path, case.method)

    @pytest.mark.parametrize(("failure", "case"), FAILURES, ids=str)
    def test_a_failure_is_as_described(self, use_cases: UseCases, failure: BenefitsError, case: Case) -> None:
        def fail(*_: object) -> Any:
            raise failure

        names = [field.name for field in attrs.fields(UseCases)]
        response = case.send(create_app(attrs.evolve(use_cases, **dict.fromkeys(names, fail))).test_client())

        assert (response.status_code, response.get_json()) == (case.status, {"error": case.code})
        self.check(response, case.path, case.method)

    @pytest.mark.parametrize("path", ["/products", "/openapi.json", "/docs", "/docs/{file}"])
    def test_a_response_to_a_client_that_has_the_content_already_is_as_described(
        self, client: FlaskClient, path: str
    ) -> None:
        url = path.format(file="docs.js")
        tag = client.get(url).headers["ETag"]

        response = client.get(url, headers={"If-None-Match": tag})

        assert response.status_code == 304
        self.check(response, path)

    def test_the_response_to_another_method_is_as_described(self, client: FlaskClient) -> None:
        response = client.delete("/orders")

        self.check_described(response, DOCUMENT["components"]["responses"]["method_not_allowed"])

    def test_no_operation_promises_an_error_that_does_not_occur(self) -> None:
        occurring = {
            (case.path, case.method, case.code)
            for case in [*CASES, *(case for _, case in FAILURES)]
            if case.code
        }
        promised = {
            (path, method, code)
            for path, item in DOCUMENT["paths"].items()
            for method, operation in item.items()
            for response in operation["responses"].values()
            for code in error_codes(resolved(response))
        }

        # An unexpected error may occur everywhere.
        anywhere = {
            (path, method, "internal_error") for path, item in DOCUMENT["paths"].items() for method in item
        }
        assert promised == occurring | anywhere

    def test_a_detail_is_worded_as_in_the_examples(self, client: FlaskClient) -> None:
        shown = [value for _, value in examples(DOCUMENT) if "detail" in value]

        answered = [case.send(client).get_json() for case in CASES if case.path == "/orders"]

        assert shown
        assert all(value in answered for value in shown)


class TestBodies:
    def shape(self, schema: Any) -> Any:
        """Return what both msgspec and the document say of a type: the fields and their types, but no words."""
        if schema == msgspec.json.schema(int | Decimal):
            return "Money"
        if schema == msgspec.json.schema(int | float):
            return {"type": "number"}
        name = schema.get("$ref", "").rpartition("/")[2]
        if name and name not in SCALARS - {"Money"}:
            return name
        schema = resolved({key: value for key, value in schema.items() if key != "description"})
        shape = {key: schema[key] for key in ("type", "enum", "maxItems") if key in schema}
        if "properties" in schema:
            shape["required"] = set(schema.get("required", ()))
            shape["fields"] = {field: self.shape(of) for field, of in schema["properties"].items()}
        if "items" in schema:
            shape["items"] = self.shape(schema["items"])
        return shape

    def test_the_schemas_have_the_fields_types_and_limits_of_the_wire_types(self) -> None:
        types = [kind for kind in vars(wire).values() if isinstance(kind, type)]
        structs = [kind for kind in types if issubclass(kind, msgspec.Struct)]
        _, generated = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")

        described = {name: self.shape(schema) for name, schema in SCHEMAS.items() if name not in SCALARS}

        assert described == {name: self.shape(schema) for name, schema in generated.items()}

    def test_only_requests_may_have_further_fields(self) -> None:
        for name in SCHEMAS.keys() - SCALARS:
            assert SCHEMAS[name].get("additionalProperties", True) == (name in REQUESTS), name

    @pytest.mark.parametrize(("schema", "value"), list(examples(DOCUMENT)))
    def test_every_example_is_valid(self, schema: Any, value: Any) -> None:
        assert is_valid(schema, value)

    @pytest.mark.parametrize(
        ("schema", "value"), [found for found in examples(DOCUMENT) if "$ref" in found[0]]
    )
    def test_every_example_is_what_the_wire_types_would_write(self, schema: Any, value: Any) -> None:
        kind = getattr(wire, schema["$ref"].rpartition("/")[2])
        encoded = msgspec.json.encode(value)

        assert wire.encode(msgspec.json.decode(encoded, type=kind)) == encoded

    @pytest.mark.parametrize(
        ("amount", "valid"),
        [
            (0, True),
            (75.99, True),
            (float(MAX_MONEY), True),
            (-0.01, False),
            (float(MAX_MONEY) + 0.01, False),
            ("75.99", False),
        ],
    )
    def test_money_is_a_number_within_the_limits_of_the_core(self, amount: object, *, valid: bool) -> None:
        assert is_valid({"$ref": "#/components/schemas/Money"}, amount) == valid

    @pytest.mark.parametrize(
        ("schema", "limit"),
        [
            (SCHEMAS["UserBody"]["properties"]["user_id"], MAX_ID_LENGTH),
            (SCHEMAS["UserData"]["properties"]["product_ids"]["items"], MAX_ID_LENGTH),
            (SCHEMAS["ProductBody"]["properties"]["id"], MAX_ID_LENGTH),
            (SCHEMAS["ProductBody"]["properties"]["name"], MAX_NAME_LENGTH),
            (SCHEMAS["OrderData"]["properties"]["items"]["items"], MAX_ID_LENGTH),
        ],
    )
    def test_text_has_the_limits_of_the_core(self, schema: Any, limit: int) -> None:
        valid = [length for length in (0, 1, limit, limit + 1) if is_valid(schema, "x" * length)]

        assert valid == [1, limit]

    def test_the_limits_of_a_request_body_are_in_words(self) -> None:
        words = " ".join(OPERATIONS["placeOrder"]["description"].split())

        assert f"at most {wire.MAX_BODY_BYTES // 1024} KiB" in words
        assert f"at most {wire.MAX_DEPTH} deep" in words

    def test_every_schema_and_every_field_has_a_description(self) -> None:
        for name, schema in SCHEMAS.items():
            assert "description" in schema, name
            for field, declared in schema.get("properties", {}).items():
                # A list of values, or of things that are described, describes itself.
                assert {"$ref", "description", "enum"} & {*declared, *declared.get("items", {})}, (
                    name,
                    field,
                )


class TestUserNames:
    # The characters on which the rule depends, more often than chance would choose them.
    names = st.text(st.sampled_from(" \t\u2003\x85\x1c\x00\n\ufeff/aé😀\u200d"), max_size=8) | st.text()
    lengths = st.integers(60, 70).map("x".__mul__)
    normalised = (names | lengths).map(lambda name: unicodedata.normalize("NFC", name))

    def test_the_pattern_trims_the_white_space_that_python_trims(self) -> None:
        padding = SCHEMAS["UserName"]["pattern"].removeprefix("^").partition("*")[0]

        trimmed = re.findall(padding, "".join(map(chr, range(sys.maxunicode + 1))))

        assert trimmed == [char for char in map(chr, range(sys.maxunicode + 1)) if char.isspace()]

    @given(name=normalised)
    def test_in_an_order_the_pattern_is_the_rule_of_the_core(self, name: str) -> None:
        schema = SCHEMAS["OrderDraft"]["properties"]["user_id"]
        try:
            normal_user_id(name)
        except InvalidUserIdError:
            assert not is_valid(schema, name)
        else:
            assert is_valid(schema, name)

    @example(name="/a")
    @example(name="a/")
    @example(name="a//b")
    @example(name="a/b")
    @given(name=normalised)
    def test_in_a_path_the_schema_allows_what_is_served(self, name: str) -> None:
        [parameter] = OPERATIONS["getUser"]["parameters"]
        client = create_app(UseCases.over(MemoryStore())).test_client()

        status = client.get(f"/users/{quote(name, safe='')}").status_code

        assert is_valid(parameter["schema"], name) == (status == 200)
        assert status in {200, 400, 404}


class TestMounts:
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
    def test_the_server_is_the_path_of_the_mount(self, script_root: str, prefix: str, url: str) -> None:
        app = Flask(__name__, static_folder=None)
        app.register_blueprint(benefits_blueprint(UseCases.over(MemoryStore())), url_prefix=prefix)

        served = app.test_client().get(f"{prefix}/openapi.json", base_url=f"http://localhost{script_root}")

        assert served.get_json() == {**DOCUMENT, "servers": [{"url": url}]}

    def test_each_mount_serves_its_own_path(self, client: FlaskClient) -> None:
        served = [
            client.get(f"{prefix}/openapi.json").get_json()["servers"] for prefix in ("/api", "", "/api")
        ]

        assert served == [[{"url": "/api"}], [{"url": "/"}], [{"url": "/api"}]]

    def test_an_application_may_serve_a_document_of_its_own(self) -> None:
        document = describe_service("X-Remote-User")
        client = create_app(UseCases.over(MemoryStore()), document=document).test_client()

        for prefix in ("", "/api"):
            served = client.get(f"{prefix}/openapi.json").get_json()
            assert {**served, "servers": None} == {**document, "servers": None}


class TestService:
    def test_every_response_has_a_request_id(self) -> None:
        responses = describe_service("X-Forwarded-User")["components"]["responses"].values()

        assert all("X-Request-ID" in response["headers"] for response in responses)

    @pytest.mark.parametrize(
        "request_id", ["7", "a" * 128, "azAZ09._:/+=@-", "", "a" * 129, *" ,;\\{}\"'<>&?#%\t~é"]
    )
    def test_a_request_id_that_is_kept_has_the_described_form(self, request_id: str) -> None:
        header = describe_service()["components"]["headers"]["RequestId"]

        response = logged_client().get("/products", headers={"X-Request-ID": request_id})

        kept = response.headers["X-Request-ID"] == request_id
        assert kept == bool(re.search(header["schema"]["pattern"], request_id))

    def test_the_header_is_the_one_of_the_settings(self) -> None:
        document = describe_service("X-Remote-User")

        assert document["components"]["securitySchemes"]["proxy"]["name"] == "X-Remote-User"

    def test_the_operations_of_the_api_keep_all_that_they_have(self) -> None:
        document = describe_service("X-Forwarded-User")

        for path, item in DOCUMENT["paths"].items():
            for method, operation in item.items():
                extended = document["paths"][path][method]
                assert extended == {
                    **extended,
                    **operation,
                    "responses": extended["responses"] | operation["responses"],
                }


PARAMETERS = {parameter["name"]: parameter for parameter in OPERATIONS["listOwnOrders"]["parameters"]}


class TestListOfOrders:
    @example(name="/a")
    @example(name="a&b=c")
    @example(name="")
    @given(name=TestUserNames.normalised)
    def test_the_schema_allows_the_names_that_are_served(self, name: str) -> None:
        client = create_app(UseCases.over(MemoryStore())).test_client()

        status = client.get(f"/orders?user_id={quote(name, safe='')}").status_code

        assert is_valid(PARAMETERS["user_id"]["schema"], name) == (status == 200)
        assert status in {200, 400}

    def test_the_limit_is_that_of_the_wire_format(self) -> None:
        schema = PARAMETERS["limit"]["schema"]

        assert (schema["minimum"], schema["maximum"]) == (1, wire.MAX_LISTED_ORDERS)
        assert schema["default"] == wire.LISTED_ORDERS == wire.read_orders_query(b"user_id=jo").limit

    def test_only_the_user_id_is_required(self, client: FlaskClient) -> None:
        required = {name for name, parameter in PARAMETERS.items() if parameter.get("required")}

        assert required == {"user_id"}
        assert client.get("/orders?user_id=jo").status_code == 200

    def test_the_limit_of_a_query_is_in_words(self) -> None:
        words = " ".join(OPERATIONS["listOwnOrders"]["description"].split())

        assert f"at most {wire.MAX_PARAMETERS} parameters" in words

    def test_text_has_the_limits_of_the_core(self) -> None:
        line = SCHEMAS["OrderLineBody"]["properties"]
        for schema, limit in [
            (line["id"], MAX_ID_LENGTH),
            (line["name"], MAX_NAME_LENGTH),
            (SCHEMAS["ListedOrderData"]["properties"]["items"]["items"], MAX_ID_LENGTH),
        ]:
            valid = [length for length in (0, 1, limit, limit + 1) if is_valid(schema, "x" * length)]
            assert valid == [1, limit]
