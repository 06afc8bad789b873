"""Signs up, submits a job, waits for its end, and lists: with a client that was generated from docs/openapi.json.

    pip install openapi-python-client
    openapi-python-client generate --path ../../../openapi.json --meta none --output-path millrace_client
    API_URL=http://127.0.0.1:8000 python example.py

Everything is typed: mypy finds a field or a path that the API does not have.
"""

import os
import time
import uuid
from typing import TypeVar

from millrace_client import AuthenticatedClient, Client
from millrace_client.api.accounts import list_users, register_user
from millrace_client.api.jobs import get_job, list_jobs, submit_job
from millrace_client.models import Job, JobState, NewUser, Problem, SubmitJob

API_URL = os.environ.get("API_URL", "http://127.0.0.1:8000")
ENDED = {JobState.SUCCEEDED, JobState.DEAD, JobState.CANCELLED, JobState.EXPIRED}
T = TypeVar("T")


def told(answer: T | Problem | None) -> T:
    """The answer, or its problem as an exception."""
    if answer is None:
        raise RuntimeError("an answer without a body")
    if isinstance(answer, Problem):
        raise RuntimeError(f"{answer.status} {answer.code}: {answer.detail}")
    return answer


def sign_up() -> AuthenticatedClient:
    new = NewUser(email=f"python-{uuid.uuid4()}@example.org", password=f"a password of {uuid.uuid4()}")
    session = told(register_user.sync(client=Client(base_url=API_URL), body=new))
    return AuthenticatedClient(base_url=API_URL, token=session.access_token)


def ended(client: AuthenticatedClient, job: Job) -> Job:
    while job.state not in ENDED:
        time.sleep(0.2)
        job = told(get_job.sync(client=client, id=job.id))
    return job


def main() -> None:
    client = sign_up()
    new = SubmitJob(kind="debug.echo", payload={"hello": "from Python"}, tags=["example"])
    job = ended(client, told(submit_job.sync(client=client, body=new, prefer="wait=10", idempotency_key=str(uuid.uuid4()))))
    print(f"{job.kind} {job.state}: {job.result}")

    page = told(list_jobs.sync(client=client, tag="example", limit=10))
    if job.state != JobState.SUCCEEDED or job.id not in [item.id for item in page.items]:
        raise RuntimeError("the job did not succeed, or is not listed")

    refused = list_users.sync(client=client)
    if not isinstance(refused, Problem) or refused.code != "insufficient_scope":
        raise RuntimeError("a user read the accounts of all")
    print(f"listed {len(page.items)}, and was refused what is the administrators'")


if __name__ == "__main__":
    main()
