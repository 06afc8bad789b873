"""What schemathesis cannot know of our API: an Idempotency-Key belongs to one body, so each request gets a key of its own."""

import uuid

import schemathesis
from schemathesis import GenerationMode


@schemathesis.hook
def before_call(context, case, kwargs):
    # Requests that are meant to be refused stay as they were drawn.
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    for name, value in list((case.headers or {}).items()):
        if name.lower() == "idempotency-key":
            case.headers[name] = f"{value[:200]}-{uuid.uuid4()}"
