"""The units of this folder, run: ready, alive, reloaded and stopped as they say, and able to do their work under their limits.

Called by infra/local/units with a folder that is the root of a small file system, and both servers up.
"""

import json
import os
import pathlib
import pwd
import subprocess
import sys
import time
import urllib.error
import urllib.request

from manager import WATCHDOG_S, Service, can_mount

FOLDER = pathlib.Path(__file__).parent


def until(what, condition, within=30):
    deadline = time.monotonic() + within
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.05)


def ask(method, url, token=None, body=None, content_type="application/json"):
    """Status and body of an answer; None and why where there is none."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    request = urllib.request.Request(url, data, {"content-type": content_type}, method=method)
    if token:
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    except OSError as error:
        return None, str(error).encode()
    return status, text


def say(text):
    print(f"   {text}", flush=True)


def check_confinement(service):
    """The limits hold: no right, no way to one, filtered system calls, and no core file."""
    lines = open(f"/proc/{service.process.pid}/status").read().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    held = {name: status[name] for name in ("NoNewPrivs", "Seccomp", "CapEff", "Umask")}
    assert held == {"NoNewPrivs": "1", "Seccomp": "2", "CapEff": "0" * 16, "Umask": "0077"}, held
    if can_mount(service.state):
        for path in service.closed.split():
            seen = f"/proc/{service.process.pid}/root{path}"
            assert not os.listdir(seen), f"{service.name} sees what is in {path}"


def check_life(service):
    """Signs of life come, and often enough."""
    service.wait_for("WATCHDOG=1", 10, times=len(service.times_of("WATCHDOG=1")) + 3)
    times = service.times_of("WATCHDOG=1")
    longest = max(after - before for before, after in zip(times, times[1:]))
    assert longest < WATCHDOG_S, f"{service.name} was silent for {longest:.2f} s of {WATCHDOG_S}"
    say(f"{service.name}: WATCHDOG=1 each {longest:.2f} s at the latest, of {WATCHDOG_S}")


def check_reload(service, settings_file):
    """A good file is taken over, a bad one changes nothing, and neither ends the process."""
    before = settings_file.read_text()
    for text, words in (('log_level = "debug"\n', "reloaded"), ("log_level = 7 =\n", "not reloaded")):
        n_before = service.log().count(words)
        settings_file.write_text(text)
        service.reload()
        until(f"{service.name} says {words}", lambda: service.log().count(words) > n_before)
    settings_file.write_text(before)
    assert service.process.poll() is None
    say(f"{service.name}: HUP reloads, and a bad file changes nothing")


def check_stop(service):
    code, seconds = service.stop()
    assert code == 0, f"{service.name} ended with {code}:\n{service.last_words()}"
    say(f"{service.name}: STOPPING=1, and exit code 0 after {seconds:.1f} s of {service.settings['TimeoutStopSec'][0]}")


def check_work(port, token):
    """Files are stored, jobs run, and what ran in a child that is killed is known from its black box: all under the units' limits."""
    base = f"http://127.0.0.1:{port}/api/v1"
    boundary = "of-the-check"
    part = f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello\r\n--{boundary}--\r\n'
    status, text = ask("POST", f"{base}/files", token, part.encode(), f"multipart/form-data; boundary={boundary}")
    assert status == 201, (status, text)
    file_id = json.loads(text)["id"]
    status, text = ask("GET", f"{base}/files/{file_id}/content", token)
    assert (status, text) == (200, b"hello"), (status, text)

    def submit(kind, payload):
        status, text = ask("POST", f"{base}/jobs", token, {"kind": kind, "payload": payload})
        assert status == 202, (status, text)
        return json.loads(text)["id"]

    def job(job_id):
        return json.loads(ask("GET", f"{base}/jobs/{job_id}", token)[1])

    inspected = submit("files.inspect", {"file_id": file_id})
    slow = submit("debug.sleep", {"ms": 3000})
    until("a job that reads a file ends", lambda: job(inspected)["state"] == "succeeded")
    until("a job runs", lambda: job(slow)["state"] == "running")
    workers = json.loads(ask("GET", f"{base}/workers", token)[1])["items"]
    children = [child for worker in workers for child in worker["children"]]
    assert children and all(child["rss_kb"] > 0 for child in children), children
    for child in children:
        os.kill(child["pid"], 9)
    until("the job whose child was killed ends", lambda: job(slow)["state"] == "succeeded")
    attempts = json.loads(ask("GET", f"{base}/jobs/{slow}/attempts", token)[1])["items"]
    assert "crashed" in [attempt.get("outcome") for attempt in attempts], attempts
    say("files are stored and read; a killed child's job is known from the black box, and runs again")


def check_metrics(address, names):
    status, text = ask("GET", f"http://{address}/metrics")
    assert status == 200, (status, text)
    for name in names:
        values = [float(line.split()[-1]) for line in text.decode().splitlines() if line.startswith(name)]
        assert any(value > 0 for value in values), f"{name} is missing at {address}"


def check_backup(root, uid, gid):
    """A backup while the platform runs, with its unit's rights."""
    backup = Service(FOLDER, "millrace-backup.service", root, uid, gid)
    backup.start()
    assert backup.process.wait(120) == 0, backup.last_words()
    assert list(pathlib.Path(root).glob("var/backups/millrace/*Z/files/*/*")), backup.last_words()
    say("millrace-backup.service: exit code 0, and the dump and a file are there")


def main(root, api_port, worker_address):
    account = pwd.getpwnam("nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name)
    uid, gid = account.pw_uid, account.pw_gid
    state = pathlib.Path(root) / "var/lib/millrace"
    backups = pathlib.Path(root) / "var/backups/millrace"
    if os.getuid() == 0:
        for path in (state, backups, *state.rglob("*")):
            os.chown(path, uid, gid)
    say("mounts are emulated too" if can_mount(str(state)) else "no mounts may be made here: ProtectSystem and ProtectProc are not emulated")
    run = [FOLDER / "millrace-run"]
    environment = {**os.environ, "MILLRACE_ENV": f"{root}/etc/millrace/millrace.env", "MILLRACE_BIN": f"{root}/opt/millrace/current"}
    for name in ("DATABASE_URL", "DATABASE_READ_URL", "REDIS_URL"):
        environment.pop(name, None)

    def tool(*arguments, **more):
        done = subprocess.run([*run, *arguments], env={**environment, **more}, capture_output=True, text=True)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout.strip()

    migrate = Service(FOLDER, "millrace-migrate.service", root, uid, gid)
    migrate.start()
    assert migrate.process.wait(120) == 0, migrate.last_words()
    say("millrace-migrate.service: exit code 0")
    tool("millrace-api", "admin", "create", "--email", "admin@example.org", ADMIN_PASSWORD="of-the-check-1")
    token = tool("millrace-api", "token", "issue", "--email", "admin@example.org").splitlines()[-1]

    api = Service(FOLDER, f"millrace-api@{api_port}.service", root, uid, gid)
    jobs = Service(FOLDER, "millrace-jobs.service", root, uid, gid)
    services = (api, jobs)
    try:
        for service in services:
            service.start()
        for service in services:
            service.wait_for("READY=1")
        for url in (f"http://127.0.0.1:{api_port}", f"http://{worker_address}"):
            assert ask("GET", f"{url}/readyz")[0] == 200, url
        for service in services:
            check_confinement(service)
        say("READY=1, both answer 200 at /readyz, and both are confined")
        check_work(api_port, token)
        check_metrics(worker_address, ("process_resident_memory_bytes", "process_open_fds", "job_finished_total"))
        tool("millrace-jobs", "inspect", "ping")
        settings_file = pathlib.Path(root) / "etc/millrace/config.toml"
        for service in services:
            check_life(service)
            check_reload(service, settings_file)
        check_backup(root, uid, gid)
        for service in services:
            check_stop(service)
    except AssertionError:
        for service in services:
            print(f"--- {service.name} said:\n{service.last_words()}", file=sys.stderr)
        raise
    finally:
        for service in services:
            if getattr(service, "process", None) and service.process.poll() is None:
                service.process.kill()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
