"""The numbers of the capacity guide, as docker-compose.yml, its large size, the profiles and the Kubernetes overlays carry them: check.py, from the root of
the checkout. docs/guides/scale.md shows the same numbers to people.
"""

import pathlib
import re
import sys
import tomllib

import yaml

faults = []

# API workers · concurrency of each · backlog · keep-alive · job slots; None: the setting's own default.
PROFILES = {
    "development": (2, None, 1024, None, 4),
    "staging": (4, None, 2048, None, 4),
    "production": (6, None, 2048, None, 8),
    "high-traffic": (8, 2000, 4096, None, 12),
    "maximum": (12, 2000, 8192, 5, 12),
}
PROFILE_NAMES = ("api_workers", "api_concurrency_limit", "api_backlog", "api_keep_alive_s", "worker_concurrency")
# .env.example has the defaults of the settings.
DEFAULTS = {"API_CONCURRENCY_LIMIT": "1000", "API_KEEP_ALIVE_S": "65", "REDIS_MAX_CONNECTIONS": "50", "WORKER_PREFETCH_MULTIPLIER": "4",
            "WORKER_MAX_TASKS_PER_CHILD": "1000"}

# Replicas, then cpus and memory: limits and reservations.
SMALL = {"api": (2, 1.0, "1G", 0.5, "512M"), "jobs": (2, 1.0, "1G", 0.5, "512M")}
MAXIMUM = {
    "api": (2, 10.0, "20G", 6.0, "12G"),
    "jobs": (2, 2.0, "4G", 1.0, "2G"),
    "postgres": (1, 4.0, "8G", 2.0, "4G"),
    "redis": (1, 2.0, "4G", 1.0, "2G"),
}
POSTGRES_SMALL = {"max_connections": "200"}
POSTGRES_MAXIMUM = {
    "max_connections": "500",
    "shared_buffers": "2GB",
    "effective_cache_size": "6GB",
    "work_mem": "16MB",
    "max_worker_processes": "12",
    "max_parallel_workers": "12",
    "max_parallel_workers_per_gather": "6",
}
REDIS = {"maxmemory-policy": "noeviction", "appendonly": "yes", "io-threads": "4", "io-threads-do-reads": "yes", "maxclients": "10000"}


def check(is_well, words):
    if not is_well:
        faults.append(words)


def merged(under, over):
    """As compose merges two files: maps into each other, all else replaced."""
    if isinstance(under, dict) and isinstance(over, dict):
        return {key: merged(under[key], over[key]) if key in under and key in over else over.get(key, under.get(key)) for key in {**under, **over}}
    return over


def defaulted(value):
    """`${NAME:-default}` is its default."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", str(value))


def check_sizes(size, services, table):
    for name, (replicas, cpus, memory, least_cpus, least_memory) in table.items():
        deploy = services[name]["deploy"]
        limits, reservations = deploy["resources"]["limits"], deploy["resources"]["reservations"]
        found = (deploy.get("replicas", 1), float(limits["cpus"]), limits["memory"], float(reservations["cpus"]), reservations["memory"])
        check(found == (replicas, cpus, memory, least_cpus, least_memory), f"{size}: {name} has {found}")


def check_stops(size, services):
    """An engine that kills what still drains loses requests."""
    for name in ("api", "jobs"):
        grace, timeout = services[name]["stop_grace_period"], services[name]["environment"]["SHUTDOWN_TIMEOUT_S"]
        check(int(grace.removesuffix("s")) > int(timeout) + 10, f"{size}: {name} is killed after {grace}")
    ping_s = 25
    proxied = open("infra/nginx/millrace/proxy.conf").read()
    check(int(re.search(r"proxy_read_timeout (\d+)s", proxied)[1]) > 2 * ping_s, "nginx closes sockets that are alive")


def check_keep_alive(size, environment):
    """nginx gives up an idle connection before the API closes it: a POST that meets the end of one is not sent again."""
    with open(f"infra/config/{defaulted(environment['APP_PROFILE'])}.toml", "rb") as file:
        profile = tomllib.load(file)
    kept = int(environment.get("API_KEEP_ALIVE_S", profile.get("api_keep_alive_s", DEFAULTS["API_KEEP_ALIVE_S"])))
    for name in ("nginx.conf", "millrace.conf"):
        upstream = re.search(r"upstream api \{.*?keepalive_timeout (\d+)s;", open(f"infra/nginx/{name}").read(), re.S)
        check(int(upstream[1]) + 5 <= kept, f"{size}: {name} keeps connections for {upstream[1]} s, and the API for {kept} s")


def check_connections(size, services):
    """Every process that has a pool is counted."""
    replicas = sum(services[name]["deploy"]["replicas"] for name in ("api", "jobs"))
    for name in ("api", "jobs"):
        said = defaulted(services[name]["environment"]["DB_PROCESSES"])
        check(said == str(replicas), f"{size}: {name} has DB_PROCESSES={said}, and there are {replicas}")


def check_grafana(services):
    """It may write where the image lets it, finds its dashboards, and no other command asks for its password."""
    grafana = services["grafana"]
    mounts = dict(reversed(volume.removesuffix(":ro").split(":")) for volume in grafana["volumes"])
    check(mounts.get("/var/lib/grafana") == "grafana", "Grafana's volume is not where the image has a folder for it")
    with open("infra/grafana/provisioning/dashboards/millrace.yml") as file:
        (provider,) = yaml.safe_load(file)["providers"]
    folder, home = provider["options"]["path"], grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    check(mounts.get(folder) == "./infra/grafana/dashboards", f"Grafana looks for dashboards in {folder}, where none are")
    check(pathlib.Path(home.replace(folder, "infra/grafana/dashboards")).is_file(), f"Grafana's first page is not there: {home}")
    optional = [name for name, service in services.items() if "profiles" in service]
    asked = [name for name in optional if ":?" in str(services[name])]
    check(not asked, f"every command fails without a variable of {asked}, which are not started by default")


def check_confined(size, services):
    for name, service in services.items():
        check(service.get("read_only") is True and service.get("cap_drop") == ["ALL"], f"{size}: {name} is not confined")
        check(all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), f"{size}: {name} listens on all interfaces")
        # Everybody on the machine may read arguments; `$$NAME` is read inside, from the environment.
        check("_PASSWORD" not in str(service.get("command")), f"{size}: a password is an argument of {name}")
        if service.get("restart") != "no":
            check("healthcheck" in service, f"{size}: {name} has no health check")


def options(command, pattern):
    """`-cname=value` or `--name value` of a command, by name."""
    words = [defaulted(word) for word in command]
    if pattern == "-c":
        return dict(word[2:].split("=", 1) for word in words if word.startswith("-c"))
    return {word[2:]: after for word, after in zip(words, words[1:]) if word.startswith("--")}


def check_servers(size, services, postgres, maxmemory):
    found = options(services["postgres"]["command"], "-c")
    for name, value in {**postgres, "synchronous_commit": "on"}.items():
        check(found.get(name) == value, f"{size}: PostgreSQL has {name}={found.get(name)}, not {value}")
    found = options(services["redis"]["command"], "--")
    check("requirepass $$REDISCLI_AUTH" in str(services["redis"]["command"]), f"{size}: Redis asks for no password")
    for name, value in {**REDIS, "maxmemory": maxmemory}.items():
        check(found.get(name) == value, f"{size}: Redis has {name}={found.get(name)}, not {value}")


def check_image():
    text = open("infra/docker/Dockerfile").read()
    final = text.rsplit("\nFROM ", 1)[1]
    check("ca-certificates.crt" in final, "the image believes no server over TLS")
    check(re.search(r"^USER 10001:10001$", final, re.M), "the image runs as root")
    builds = [words.rstrip(" \\") for words in re.findall(r"cargo build (.*)", text)]
    check(len(builds) == 2 and builds[0] == builds[1], f"the two builds of the image differ: {builds}")


def check_profiles():
    for profile, expected in PROFILES.items():
        with open(f"infra/config/{profile}.toml", "rb") as file:
            settings = tomllib.load(file)
        found = tuple(settings.get(name) for name in PROFILE_NAMES)
        check(found == expected, f"profile {profile} has {found}, not {expected}")
    with open("infra/config/maximum.toml", "rb") as file:
        check(tomllib.load(file)["redis_max_connections"] == 600, "profile maximum: redis_max_connections")
    text = open(".env.example").read()
    for name, value in DEFAULTS.items():
        check(re.search(rf"^#?{name}={value}$", text, re.M), f"{name} is not {value} by default")


def check_overlay():
    """The large size of Kubernetes is that of compose."""
    with open("infra/k8s/overlays/maximum/kustomization.yaml") as file:
        patches = {(patch["target"]["kind"], patch["target"]["name"]): yaml.safe_load(patch["patch"]) for patch in yaml.safe_load(file)["patches"]}
    for name in ("api", "jobs"):
        (patch,) = patches["Deployment", f"millrace-{name}"]
        _, cpus, memory, least_cpus, least_memory = MAXIMUM[name]
        found, expected = patch["value"], {
            "requests": {"cpu": f"{least_cpus:g}", "memory": f"{least_memory}i"},
            "limits": {"cpu": f"{cpus:g}", "memory": f"{memory}i"},
        }
        check(found == expected, f"the large overlay's {name} has {found}")


def main():
    with open("docker-compose.yml") as file:
        small = yaml.safe_load(file)["services"]
    with open("infra/docker/compose.maximum.yml") as file:
        maximum = merged(small, yaml.safe_load(file)["services"])
    for size, services, table, postgres, maxmemory in (
        ("small", small, SMALL, POSTGRES_SMALL, "384mb"),
        ("maximum", maximum, MAXIMUM, POSTGRES_MAXIMUM, "3gb"),
    ):
        check_sizes(size, services, table)
        check_stops(size, services)
        check_confined(size, services)
        check_keep_alive(size, services["api"]["environment"])
        check_connections(size, services)
        check_servers(size, services, postgres, maxmemory)
    environment = maximum["jobs"]["environment"]
    check(maximum["api"]["environment"]["API_WORKERS"] == "12", "maximum: API_WORKERS")
    check((environment["WORKER_CONCURRENCY"], environment["APP_PROFILE"]) == ("12", "maximum"), "maximum: the worker's settings")
    check_grafana(small)
    check_image()
    check_profiles()
    check_overlay()
    for fault in faults:
        print(f"fault: {fault}", file=sys.stderr)
    print(f"   compose, profiles and overlay against the capacity guide: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
