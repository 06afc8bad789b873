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
    ("invalid_json", r"/(jobs|points)/\d+", "a line of NDJSON is text to the schema"),
    ("length", r"/jobs", "so is a body of no lines"),
    ("invalid_csv", None, "CSV is text to the schema"),
    ("invalid_gpx", None, "so is GPX"),
    ("length", r"/points", "and a body that holds no point"),
    ("exclusive", "", "one of several fields must be there, and null counts as absent"),
    ("required", r"(/points/\d+)?/track_id", "only where the query does not name the track"),
    ("other_track", r"(/points/\d+)?/track_id", "must be that of the path"),
    ("unknown_track", r"(/points/\d+)?/track_id", "must name a track of the caller's"),
    ("time", r"(/points/\d+)?/recorded_at", "of years 1970 to 9999"),
    ("range", r"/points/\d+/.*", "a line is text to the schema"),
    ("required", r"/points/\d+/.*", "so is one that lacks something"),
    ("type", r"/points/\d+/.*", "or has something else in its place"),
    ("value", r"/points/\d+/.*", "or what is no value of its kind"),
    ("unknown_field", r"/points/\d+/.*", "or something more"),
    ("too_large", r".*/attributes", "schemas have no size"),
    ("empty", r"/file", "what is drawn for a binary heeds no length"),
    ("header_name", r"/headers/.*", "names of an object's fields have no pattern here"),
    ("address_not_allowed", r"/url", "depends on the names that this machine can look up"),
]


def is_beyond_schemas(code, pointer):
    # In a bulk body a field's pointer stands below its item.
    places = {pointer, re.sub(r"^/(jobs|points)/\d+", "", pointer)}
    return any(code == of and (where is None or any(re.fullmatch(where, place) for place in places)) for of, where, _ in BEYOND_SCHEMAS)


def is_refused_by_item(case, response):
    """A bulk is answered with 207 (points that are committed with 200), and each item that is none with a problem of its own."""
    answer = response.json() if response.status_code in (200, 207) else {}
    if "items" in answer:
        name, schema = "jobs", "SubmitJob"
        n_items, refused = len(answer["items"]), {item["index"] for item in answer["items"] if "problem" in item}
    elif "rejected" in answer:
        name, schema = "points", "SendPoint"
        n_items, refused = answer["accepted"] + len(answer["rejected"]), {item["index"] for item in answer["rejected"]}
    else:
        return False
    if case.media_type != "application/json":
        # Whatever was drawn is sent as text, which is what the schema asks for.
        return len(refused) == n_items
    components = case.operation.schema.raw_schema["components"]
    item = jsonschema_rs.validator_for({"$ref": f"#/components/schemas/{schema}", "components": components})
    bad = {index for index, drawn in enumerate(case.body[name]) if not item.is_valid(drawn)}
    return bool(bad) and bad <= refused


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


class OwnTrack:
    """A track of the account's, of which points are sent and read."""

    def __init__(self):
        self.lock = threading.Lock()
        self.known = None

    def id(self):
        with self.lock:
            session = ACCOUNTS.session("most")
            if self.known is None:
                answer = requests.post(f"{API}/tracks", json={"name": "fuzzed"}, headers=bearer(session), timeout=30)
                answer.raise_for_status()
                self.known = answer.json()["id"]
            return self.known


def bearer(session):
    return {"Authorization": f"Bearer {session['access_token']}"}


ACCOUNTS = Accounts()
TRACK = OwnTrack()


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
        put_in_order(case.query)
        make_possible(case)


def put_in_order(query):
    """No schema can say that a range ends after it has begun."""
    if query and isinstance(query.get("from"), str) and isinstance(query.get("to"), str):
        query["from"], query["to"] = sorted([query["from"], query["to"]])


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
    if ROLE != "anonymous" and operation_id in OF_A_TRACK:
        case.path_parameters["id"] = TRACK.id()
    if ROLE != "anonymous" and operation_id in {"create_points", "create_track_points"}:
        make_points_possible(case, chance)
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


OF_A_TRACK = {"get_track", "update_track", "create_track_points", "list_points", "get_latest_point", "get_track_stats"}


def make_points_possible(case, chance):
    """Points of a track that is there, at times that there are; and bodies of text in their form."""
    for parameters, name in [(case.query, "track_id"), (case.path_parameters, "id")]:
        if parameters and name in parameters:
            parameters[name] = TRACK.id()
    if isinstance(case.body, dict):
        for point in case.body.get("points") or [case.body]:
            point.update(track_id=TRACK.id(), recorded_at=some_time(chance))
        return
    points = [(some_time(chance), chance.uniform(-90, 90), chance.uniform(-180, 180)) for _ in range(chance.randint(1, 5))]
    if case.media_type == "application/x-ndjson":
        case.body = "".join(json.dumps({"track_id": TRACK.id(), "recorded_at": at, "lat": lat, "lon": lon}) + "\n" for at, lat, lon in points)
    elif case.media_type == "text/csv":
        case.body = "track_id,recorded_at,lat,lon\n" + "".join(f"{TRACK.id()},{at},{lat},{lon}\n" for at, lat, lon in points)
    else:
        trackpoints = "".join(f'<trkpt lat="{lat}" lon="{lon}"><time>{at}</time></trkpt>' for at, lat, lon in points)
        case.body = f"<gpx><trk><trkseg>{trackpoints}</trkseg></trk></gpx>"


def some_time(chance):
    return f"{chance.choice([1970, 2025, 2026, 9999])}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}T10:00:{chance.randint(0, 59):02}Z"


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


@schemathesis.serializer("application/x-ndjson", "text/csv", "application/gpx+xml")
def as_text(context, value):
    """Jobs or points one per line, and other forms; the schema knows only that it is text."""
    if isinstance(value, bytes):
        return value
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", errors="surrogatepass")
