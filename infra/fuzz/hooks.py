"""What schemathesis cannot know of this API: who calls, which refusals no JSON Schema can foresee, and which answers end the caller.

Read by schemathesis through SCHEMATHESIS_HOOKS (infra/local/fuzz-api). FUZZ_AS is anonymous, user or administrator;
FUZZ_ROOT_EMAIL and FUZZ_ROOT_PASSWORD sign in an administrator that makes the accounts and is never fuzzed itself.

Warnings that stand: the anonymous run gets 401 wherever credentials are asked for, the user 403 wherever a scope of operators
is, and nobody has a reset token, as those come by mail. `object_level_authorization` compares two signed-in users and idles
here; api/tests/it/access.rs does that for every route.
"""

import atexit
import base64
import collections
import json
import os
import random
import re
import secrets
import threading

import jsonschema_rs
import requests
import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import RejectedPositiveData

API = os.environ["API_URL"] + "/api/v1"
ROLE = os.environ["FUZZ_AS"]

# Operations whose success ends the session or the account that called them. They are fuzzed like all others, by an
# account of their own that is made anew whenever one of them has ended it; the account of the rest must live.
ENDING = {"delete_me", "end_session", "revoke_session", "change_password", "change_user"}

# Refusals of requests that keep the schema: (code of the problem or of its field, where, why no schema can say it).
# Anything else that a schema-valid request is refused for is a finding.
BEYOND_SCHEMAS = [
    ("invalid_cursor", None, "cursors of lists by name are opaque: only those that were given out are good"),
    ("precondition_failed", None, "whether If-Match holds depends on the object"),
    ("idempotency_key_reused", None, "depends on the request before"),
    ("unknown_kind", None, "depends on whether the queue is open to remote workers"),
    ("queue_full", None, "depends on the queue"),
    ("too_many_queues", r"/queue", "depends on how many there are"),
    ("invalid_text", None, "NUL may be in any text of a schema without a pattern; PostgreSQL holds none"),
    ("json_too_deep", None, "schemas have no depth"),
    ("payload_too_large", None, "schemas have no size"),
    ("number", r"/payload.*", "any number is JSON; those beyond a double are refused"),
    ("exclusive", r"/delay_ms", "excludes run_at, and null counts as absent"),
    ("range", r"/(run_at|expires_at)", "compared with the clock"),
    ("range", r"/(retry|default_retry)/base_ms", "compared with max_ms"),
    ("common", r"/(password|new_password)", "a list of 3,000 passwords"),
    ("email", r"/email", "format: email allows quoted names and addresses of hosts; we do not"),
    ("not_supported", r"/(state|durability)", "one value of the enumeration that other operations do take"),
    ("invalid_json", r"/jobs/\d+", "a line of NDJSON is text to the schema"),
    ("length", r"/jobs", "so is a body of no lines"),
]


def is_beyond_schemas(code, pointer):
    # In a bulk body a field's pointer stands below its item.
    places = {pointer, re.sub(r"^/jobs/\d+", "", pointer)}
    return any(code == of and (where is None or any(re.fullmatch(where, place) for place in places)) for of, where, _ in BEYOND_SCHEMAS)


def is_refused_by_item(case, response):
    """A bulk is answered with 207, and each item in it that is no job with a problem of its own."""
    if response.status_code != 207:
        return False
    answers = response.json()["items"]
    if case.media_type == "application/x-ndjson":
        # Whatever was drawn is sent as text, which is what the schema asks for.
        return all("problem" in answer for answer in answers)
    components = case.operation.schema.raw_schema["components"]
    job = jsonschema_rs.validator_for({"$ref": "#/components/schemas/SubmitJob", "components": components})
    bad = [index for index, item in enumerate(case.body["jobs"]) if not job.is_valid(item)]
    return bool(bad) and all("problem" in answers[index] for index in bad)


EXPLAINED = collections.Counter()


@atexit.register
def tell_explained():
    """What was not counted as a fault, for whoever reads the run."""
    for (operation, codes), count in sorted(EXPLAINED.items()):
        print(f"explained by hooks.py: {count:4} x {operation}: {codes}")


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Keeps every failure except the refusals that the table above explains, and those told item by item."""
    if isinstance(failure, AcceptedNegativeData):
        return not is_refused_by_item(case, response)
    if not isinstance(failure, RejectedPositiveData):
        return True
    problem = response.json()
    fields = problem.get("errors") or [{"code": problem["code"], "pointer": ""}]
    explained = is_beyond_schemas(problem["code"], "") or all(is_beyond_schemas(field["code"], field["pointer"]) for field in fields)
    if explained:
        EXPLAINED[case.operation.label, ", ".join(sorted({f"{field['code']} {field['pointer']}".strip() for field in fields}))] += 1
    return not explained


class Accounts:
    """Throw-away accounts: one for most operations, one for those that end it."""

    def __init__(self):
        self.lock = threading.RLock()
        self.root = None
        self.by_use = {}

    def session(self, use):
        with self.lock:
            if use not in self.by_use:
                self.by_use[use] = self.make()
            return self.by_use[use]

    def forget_if_ended(self, use):
        with self.lock:
            session = self.by_use.get(use)
            if session and not self.is_alive(session):
                del self.by_use[use]

    def is_alive(self, session):
        me = requests.get(f"{API}/auth/me", headers=bearer(session), timeout=30)
        return me.status_code == 200 and me.json()["role"] == session["user"]["role"]

    def make(self):
        credentials = {"email": f"fuzz-{secrets.token_hex(6)}@millrace.localhost", "password": secrets.token_hex(12)}
        session = self.post("/auth/register", credentials)
        if ROLE == "administrator":
            change = requests.patch(
                f"{API}/users/{session['user']['id']}", json={"role": "admin"}, headers=bearer(self.root_session()), timeout=30
            )
            change.raise_for_status()
            session = self.post("/auth/login", credentials)
        return session | {"password": credentials["password"]}

    def root_session(self):
        if self.root is None:
            self.root = self.post("/auth/login", {"email": os.environ["FUZZ_ROOT_EMAIL"], "password": os.environ["FUZZ_ROOT_PASSWORD"]})
        return self.root

    def protected_ids(self):
        """Accounts without which the run cannot go on; an administrator could disable them."""
        with self.lock:
            sessions = [self.root, *(session for use, session in self.by_use.items() if use == "most")]
            return {session["user"]["id"] for session in sessions if session}

    def post(self, path, body):
        answer = requests.post(API + path, json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()


def bearer(session):
    return {"Authorization": f"Bearer {session['access_token']}"}


ACCOUNTS = Accounts()


def use_of(operation):
    return "ending" if operation.definition.raw.get("operationId") in ENDING else "most"


if ROLE != "anonymous":

    # Asked for before each call: an account may have ended in the one before.
    @schemathesis.auth(refresh_interval=None)
    class SignedIn:
        def get(self, case, context):
            return ACCOUNTS.session(use_of(context.operation))["access_token"]

        def set(self, case, token, context):
            case.headers["Authorization"] = f"Bearer {token}"


@schemathesis.hook
def before_call(context, case, kwargs):
    path = case.path_parameters or {}
    if path.get("id") in ACCOUNTS.protected_ids():
        path["id"] = "00000000-0000-7000-8000-000000000000"
    # Most submits go to the default queue: no room in it, and nothing behind a submit would be tried.
    if path.get("queue") == "default" and case.method == "PATCH":
        path["queue"] = "fuzzed"
    if case.meta and case.meta.generation.mode.is_positive:
        make_possible(case)


# Most valid requests would end at the first of the refusals above, which leaves what lies behind it untried. So four of
# five are made possible: a fresh key, a kind that exists, times to come. The fifth stays as it is.
KINDS = ["debug.echo", "debug.sleep", "debug.fail"]


def make_possible(case):
    chance = random.Random(json.dumps([str(case.headers), repr(case.body)]))
    if chance.random() < 0.2:
        return
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = secrets.token_hex(8)
    operation_id, body = case.operation.definition.raw["operationId"], case.body
    if operation_id in ENDING and ROLE != "anonymous":
        make_end_possible(operation_id, case)
    if not isinstance(body, dict) or operation_id not in {"submit_job", "submit_jobs", "create_api_key"}:
        return
    for item in [body, *(body.get("jobs") or [])]:
        if "kind" in item:
            item["kind"] = chance.choice(KINDS)
        if item.get("expires_at"):
            item["expires_at"] = "2999-01-01T00:00:00Z"
        if item.get("run_at"):
            item.pop("delay_ms", None)
        if item.get("retry"):
            item["retry"].pop("base_ms", None)


def make_end_possible(operation_id, case):
    session = ACCOUNTS.session("ending")
    if operation_id == "end_session":
        case.body["refresh_token"] = session["refresh_token"]
    elif operation_id == "change_password":
        case.body["current_password"] = session["password"]
    elif operation_id == "revoke_session":
        claims = session["access_token"].split(".")[1]
        case.path_parameters["id"] = json.loads(base64.urlsafe_b64decode(claims + "=="))["sid"]


@schemathesis.hook
def after_call(context, case, response):
    if use_of(case.operation) == "ending" and 200 <= response.status_code < 300:
        ACCOUNTS.forget_if_ended("ending")


@schemathesis.serializer("application/x-ndjson")
def as_lines(context, value):
    """Jobs one per line; the schema knows only that it is text."""
    if isinstance(value, bytes):
        return value
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", errors="surrogatepass")
