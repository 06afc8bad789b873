"""One API process of our own, which scenarios may kill and start again on the same port, and its REST side."""

import asyncio
import json
import os
import signal
import socket
import time
import urllib.error
import urllib.request


class Api:
    def __init__(self, program, log_file):
        self.program = program
        self.log_file = log_file
        self.port = free_port()
        self.http = f"http://127.0.0.1:{self.port}"
        self.socket = f"ws://127.0.0.1:{self.port}/connection/websocket"
        self.accounts = 0

    async def start(self):
        env = {**os.environ, "API_HOST": "127.0.0.1", "API_PORT": str(self.port), "NO_COLOR": "1"}
        with open(self.log_file, "ab") as log:
            self.process = await asyncio.create_subprocess_exec(self.program, "serve", env=env, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while not await asyncio.to_thread(self._is_ready):
            if self.process.returncode is not None:
                raise RuntimeError(f"the API ended at once ({self.process.returncode}): see {self.log_file}")
            if time.monotonic() > deadline:
                raise RuntimeError("the API was not ready within 20 s")
            await asyncio.sleep(0.05)

    async def end(self, sig):
        if self.process.returncode is None:
            self.process.send_signal(sig)
            await self.process.wait()

    async def restart_after(self, meanwhile):
        """Kills the process, does something while it is dead, and starts it again."""
        await self.end(signal.SIGKILL)
        try:
            await meanwhile()
        finally:
            await self.start()

    async def call(self, method, path, body=None, token=None):
        return await asyncio.to_thread(self._call, method, path, body, token)

    async def account(self):
        """A new user with a session: id, email, password, token."""
        self.accounts += 1
        credentials = {
            "email": f"python-{os.getpid()}-{self.port}-{self.accounts}@millrace.localhost",
            "password": "a long passphrase for tests",
        }
        session = await self.call("POST", "/auth/register", credentials)
        return {**credentials, "id": session["user"]["id"], "token": session["access_token"]}

    async def login(self, account):
        credentials = {"email": account["email"], "password": account["password"]}
        return (await self.call("POST", "/auth/login", credentials))["access_token"]

    async def short_token(self, account, seconds):
        """An access token that is good for so many seconds only, from the program itself."""
        arguments = ["token", "issue", "--email", account["email"], "--ttl", f"{seconds}s"]
        issue = await asyncio.create_subprocess_exec(self.program, *arguments, stdout=asyncio.subprocess.PIPE)
        output, _ = await issue.communicate()
        return output.decode().strip()

    def _call(self, method, path, body, token):
        request = urllib.request.Request(f"{self.http}/api/v1{path}", method=method)
        request.add_header("content-type", "application/json")
        if token:
            request.add_header("authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, json.dumps(body).encode() if body else None, timeout=10) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path} answered {error.code}: {error.read().decode()}") from error

    def _is_ready(self):
        try:
            with urllib.request.urlopen(f"{self.http}/readyz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
