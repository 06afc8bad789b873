"""What a backup is worth: `fill` puts work of every kind in and takes backups meanwhile, `verify` looks, after a restore, for all that was there.

Called by infra/local/restore-test. API, TOKEN and STATE (a file between the two) come by the environment.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

API, TOKEN, STATE = os.environ["API"], os.environ["TOKEN"], os.environ["STATE"]
ENDED = ("succeeded", "dead", "cancelled", "expired")


def ask(method, path, body=None, content_type="application/json", expected=(200, 201, 202, 207)):
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    headers = {"content-type": content_type, "authorization": f"Bearer {TOKEN}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(API + path, data, headers, method=method), timeout=20) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    assert status in expected, (method, path, status, text[:500])
    return text


def ask_json(method, path, body=None):
    return json.loads(ask(method, path, body))


def until(what, condition, within=60):
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.1)


def submit(queue, kind="debug.echo", payload=None, **more):
    return ask_json("POST", "/jobs", {"kind": kind, "queue": queue, "payload": payload or {}, **more})["id"]


def jobs_of(queue):
    """Every job of a queue by its id, with what must not change once it has ended."""
    found, cursor = {}, ""
    while True:
        page = ask_json("GET", f"/jobs?queue={queue}&limit=200{cursor}")
        found |= {job["id"]: [job["state"], job["attempt"], job["finished_at"]] for job in page["items"]}
        if not page["next_cursor"]:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def upload(n_bytes):
    content, boundary = os.urandom(n_bytes), "of-the-check"
    head = f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="{n_bytes}.bin"\r\n\r\n'.encode()
    body = head + content + f"\r\n--{boundary}--\r\n".encode()
    file_id = json.loads(ask("POST", "/files", body, f"multipart/form-data; boundary={boundary}"))["id"]
    return file_id, hashlib.sha256(content).hexdigest()


def fill(backup):
    state = {"files": dict(upload(n_bytes) for n_bytes in (1, 70_000, 300_000, 6_000_000))}
    for number in range(300):
        submit("done", payload={"number": number})
    for _ in range(5):
        submit("done", "debug.fail", {"message": "no luck"}, retry={"max_attempts": 1})
    track = ask_json("POST", "/tracks", {"name": "Bus 7"})["id"]
    points = [{"track_id": track, "recorded_at": f"2026-11-21T10:{n // 60:02}:{n % 60:02}Z", "lat": 52.5, "lon": 13.4} for n in range(500)]
    ask("POST", "/points?durability=postgres", {"points": points})
    state["track"] = track
    schedule = {"name": "nightly", "kind": "debug.echo", "payload": {}, "cron": "30 2 * * *"}
    state["schedule"] = ask_json("POST", "/schedules", schedule)["id"]
    until("all jobs have ended", lambda: all(job[0] in ENDED for job in jobs_of("done").values()))
    # These are under way when the backup is taken, and become due after it was restored.
    state["waiting"] = [submit("waiting", delay_ms=20_000) for _ in range(20)]
    state["far"] = [submit("waiting", delay_ms=3_600_000) for _ in range(5)]
    state["done"] = jobs_of("done")
    state["busy"] = take_backups(backup)
    state["late"] = upload(5_000)[0]
    with open(STATE, "w") as file:
        json.dump(state, file)
    print(f"   {len(state['done'])} jobs ended, 25 wait, 500 points, {len(state['files'])} files; two backups under load")


def take_backups(backup):
    """Two, while jobs go in all the time: the second has the first to link to. Gives those that were accepted before the second began."""
    stop, submitted = threading.Event(), []

    def go_on():
        while not stop.is_set():
            submitted.append(submit("busy"))

    busy = threading.Thread(target=go_on)
    busy.start()
    try:
        for _ in range(2):
            n_before = len(submitted)
            until("jobs go in", lambda: len(submitted) > n_before + 10)
            before = list(submitted)
            subprocess.run([backup], check=True)
            # Their names have a second's precision.
            time.sleep(1)
    finally:
        stop.set()
        busy.join()
    return before


def verify():
    with open(STATE) as file:
        state = json.load(file)
    until("waiting jobs run once they are due", lambda: all(jobs_of("waiting")[job][0] == "succeeded" for job in state["waiting"]))
    waiting = jobs_of("waiting")
    assert all(waiting[job][1] == 1 for job in state["waiting"]), "a job that waited ran more than once"
    assert all(waiting[job][0] == "scheduled" for job in state["far"]), "a job that is not due yet ran"
    busy = jobs_of("busy")
    missing = set(state["busy"]) - set(busy)
    assert state["busy"] and not missing, f"{len(missing)} jobs are missing that were accepted before the backup began"
    until("jobs that were under way end", lambda: all(job[0] in ENDED for job in jobs_of("busy").values()))
    assert jobs_of("done") == state["done"], "jobs that had ended are not as they were: missing, or run again"
    for file_id, sha256 in state["files"].items():
        assert hashlib.sha256(ask("GET", f"/files/{file_id}/content")).hexdigest() == sha256, file_id
    ask("GET", f"/files/{state['late']}", expected=(404,))
    points = ask_json("GET", f"/tracks/{state['track']}/points?limit=1000")["items"]
    assert len(points) == 500, len(points)
    assert ask_json("GET", f"/schedules/{state['schedule']}")["name"] == "nightly"
    fresh = submit("done")
    until("a new job runs", lambda: jobs_of("done")[fresh][0] == "succeeded")
    print(f"   all of it is there, what waited ran once, {len(busy)} jobs of the backup's own time ended, and nothing that had ended ran again")


if __name__ == "__main__":
    fill(sys.argv[2]) if sys.argv[1] == "fill" else verify()
