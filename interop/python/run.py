"""Runs the scenarios one after another, or those whose name contains the argument: python run.py [TEXT]

One line each; the exit code says whether all passed. infra/local/interop sets what is read from the environment.
"""

import asyncio
import inspect
import os
import signal
import sys
import time
import traceback

import raw
import recovery
import refusals
import server_api
import talking
import tokens
import webhooks
from api import Api

DEADLINE_S = 20
ROOMS = [talking, tokens, refusals, recovery, server_api, raw, webhooks]


class Scope:
    """What a scenario is given: an API process it may kill, names nobody else uses, and a place for what must be put away."""

    made = 0

    def __init__(self, api, neighbour):
        self.api = api
        self.neighbour = neighbour
        self._cleanups = []
        Scope.made += 1
        self.tag = f"py{os.getpid()}x{Scope.made}"

    def besides(self):
        """The same scope at the other API process, which nobody kills."""
        beside = Scope(self.neighbour, self.neighbour)
        beside._cleanups = self._cleanups
        return beside

    def on_end(self, cleanup):
        self._cleanups.append(cleanup)

    async def close(self):
        for cleanup in reversed(self._cleanups):
            await cleanup()


async def passes(name, scenario, processes):
    began = time.monotonic()
    scope = Scope(*processes)
    failure = None
    try:
        await asyncio.wait_for(scenario(scope), DEADLINE_S)
    except Exception:
        failure = traceback.format_exc()
    await scope.close()
    took_ms = round((time.monotonic() - began) * 1000)
    print(f"{'FAILED' if failure else 'ok    '}  python  {name}   ({took_ms} ms)", flush=True)
    if failure:
        print("        " + failure.replace("\n", "\n        "), flush=True)
    return failure is None


def scenarios():
    """Every public coroutine of a room that takes a scope is a scenario, named by its docstring."""
    for room in ROOMS:
        for scenario in list(vars(room).values()):
            if inspect.iscoroutinefunction(scenario) and scenario.__module__ == room.__name__ and scenario.__name__[0] != "_":
                yield scenario.__doc__.strip(), scenario


async def main(wanted):
    directory = os.environ["INTEROP_DIR"]
    processes = [Api(os.environ["MILLRACE_API"], f"{directory}/{name}.log") for name in ("api-python", "neighbour-python")]
    failed = 0
    try:
        for api in processes:
            await api.start()
        for name, scenario in scenarios():
            if wanted in name and not await passes(name, scenario, processes):
                failed += 1
    finally:
        for api in processes:
            await api.end(signal.SIGTERM)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "")))
