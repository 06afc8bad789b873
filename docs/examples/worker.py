#!/usr/bin/env python3
"""A Millrace worker with nothing but the standard library: python3 worker.py URL QUEUE [JOBS_AT_ONCE]

MILLRACE_KEY holds an API key with the scope jobs:work. TERM finishes what runs, and ends an idle worker at once.
See docs/guides/remote-workers.md.
"""
import json, os, signal, sys, threading, time, urllib.error, urllib.request

URL, QUEUE, AT_ONCE = sys.argv[1].rstrip("/") + "/api/v1/", sys.argv[2], int((sys.argv + ["10"])[3])
HEADERS = {"Content-Type": "application/json", "X-API-Key": os.environ["MILLRACE_KEY"]}


def run(job):
    """The work. What it returns is the job's result, what it raises the job's failure: it is then tried again."""
    return {"echo": job["payload"]}


def call(path, **body):
    """Asks again while the platform cannot answer; whatever is asked may be asked twice."""
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), HEADERS)
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != 429:
                sys.exit(f"{path}: {error.code} {error.read().decode()}")  # a fresh process begins a fresh session
        except OSError:
            pass
        time.sleep(1)


session = call("worker-sessions", name=f"{os.uname().nodename}-{os.getpid()}", queues=[QUEUE], concurrency=AT_ONCE)
held, dropped, stopping, waiting = set(), set(), threading.Event(), False


class Stopped(BaseException):
    """Cuts the wait for jobs short."""


def stop(*_):
    """Nothing is lost by a request that is cut off: outcomes are told again, and jobs leased in that very moment come back after their lease."""
    global waiting
    stopping.set()
    if waiting:
        waiting = False
        raise Stopped


signal.signal(signal.SIGTERM, stop)


def beat():
    while True:
        time.sleep(session["heartbeat_ms"] / 1000)
        leases = [{"lease_token": token} for token in list(held)]
        news = call("leases/heartbeat", session_id=session["session_id"], leases=leases)
        dropped.update(news["cancel"] + news["lost"])
        if news["command"] != "none":
            stopping.set()


threading.Thread(target=beat, daemon=True).start()
settles = []
while settles or not stopping.is_set():
    try:
        waiting = True
        wanted = {"max": 0} if stopping.is_set() else {"max": AT_ONCE, "wait_ms": 20_000}
        answer = call("leases", session_id=session["session_id"], settle=settles, **wanted)
        waiting = False
    except Stopped:
        continue
    held, settles = {leased["lease_token"] for leased in answer["jobs"]}, []
    for leased in answer["jobs"]:
        try:
            idle = stopping.is_set() or leased["lease_token"] in dropped
            outcome = {"outcome": "release"} if idle else {"outcome": "ok", "result": run(leased["job"])}
        except Exception as error:
            outcome = {"outcome": "fail", "error": {"code": type(error).__name__, "message": str(error)}}
        settles.append({"lease_token": leased["lease_token"], **outcome})
