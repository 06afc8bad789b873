"""The queries of every dashboard and alert, put to a Prometheus: ask.py URL | ask.py files

Each query of a dashboard must return at least one series with a number in it, as the panel would ask it: variables that stand for
everything, and a short interval. Each alert must evaluate without an error. `files` only looks at the dashboards as such.
Python's own library is all it needs.
"""

import json
import pathlib
import re
import sys
import time
import urllib.parse
import urllib.request

DASHBOARDS = pathlib.Path(__file__).parent / "dashboards"
# What Grafana would put in their place.
INTERVAL = "20s"
# Scrapes and looks at the servers come once a second; whatever is told at all is told by then.
PATIENCE_S = 30


def dashboards():
    return [json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))]


def queries():
    """(dashboard, panel, query) of every target and variable."""
    for dashboard in dashboards():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                yield dashboard["title"], panel["title"], target["expr"]


def faults():
    """What is wrong with the dashboards as such."""
    seen = set()
    for dashboard in dashboards():
        title = dashboard["title"]
        if dashboard["uid"] in seen:
            yield f"{title}: its uid is another's"
        seen.add(dashboard["uid"])
        names = {variable["name"] for variable in dashboard["templating"]["list"]}
        ids = [panel["id"] for panel in dashboard["panels"]]
        if len(ids) != len(set(ids)):
            yield f"{title}: panels share an id"
        for panel in dashboard["panels"]:
            where = f"{title} / {panel['title']}"
            if panel["type"] == "row":
                continue
            if not panel["fieldConfig"]["defaults"].get("unit"):
                yield f"{where}: no unit"
            if not panel["targets"] or panel["datasource"]["uid"] != "prometheus":
                yield f"{where}: nothing to ask, or somebody else to ask"
            for target in panel["targets"]:
                unknown = set(re.findall(r"\$(\w+)", target["expr"])) - names - {"__rate_interval"}
                if unknown:
                    yield f"{where}: unknown variables {unknown}"


def get(url, path, **parameters):
    with urllib.request.urlopen(f"{url}{path}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
        return json.load(answer)["data"]


def ask(url, query):
    """The numbers that the query returns now."""
    query = query.replace("$__rate_interval", INTERVAL)
    query = re.sub(r"\$\w+", ".*", query)
    try:
        result = get(url, "/api/v1/query", query=query)["result"]
    except urllib.error.HTTPError as error:
        sys.exit(f"Prometheus refuses {query}: {error.read().decode()}")
    return [float(series["value"][1]) for series in result]


def has_answer(url, query):
    return any(number == number for number in ask(url, query))


def check_alerts(url):
    groups = get(url, "/api/v1/rules", type="alert")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    for rule in rules:
        if rule["health"] != "ok":
            sys.exit(f"{rule['name']}: {rule['health']}, {rule.get('lastError')}")
    # A stray page would be as wrong as a missing one: under this small load nothing is.
    loud = [rule["name"] for rule in rules if rule["state"] == "firing"]
    if loud:
        sys.exit(f"alerts fire while all is well: {', '.join(loud)}")
    return len(rules)


def main(url):
    left = list(queries())
    n_queries, deadline = len(left), time.monotonic() + PATIENCE_S
    while True:
        left = [query for query in left if not has_answer(url, query[2])]
        if not left or time.monotonic() > deadline:
            break
        time.sleep(1)
    for dashboard, panel, query in left:
        print(f"no data: {dashboard} / {panel}: {query}", file=sys.stderr)
    if left:
        sys.exit(1)
    print(f"{n_queries} queries of {len(dashboards())} dashboards have data; {check_alerts(url)} alerts evaluate, and none fires")


if __name__ == "__main__":
    found = list(faults())
    if found:
        sys.exit("\n".join(found))
    if sys.argv[1] != "files":
        main(sys.argv[1])
