"""What holds in the manifests of this folder: check.py FILE…, each the output of an overlay; with --plain, files as they are written.

Every resource is held against the schemas of Kubernetes, as far as it is one of Kubernetes' own. The rest is what no schema knows: that a pod has
the time that its process takes to stop, that selectors select, that names lead somewhere, that nothing runs as root.
"""

import re
import sys

import kubernetes_validate
import yaml

# The oldest that is meant, and the newest there is.
VERSIONS = ("1.29", "1.37")
OTHERS = ("keda.sh/", "monitoring.coreos.com/", "kustomize.config.k8s.io/")
# Beyond SHUTDOWN_TIMEOUT_S, for the end of a process to be noticed.
MARGIN_S = 10

faults = []


def check(is_well, words):
    if not is_well:
        faults.append(words)


def name_of(resource):
    return f"{resource['kind']}/{resource['metadata']['name']}"


def check_schemas(resource, seen):
    if resource["apiVersion"].startswith(OTHERS):
        return
    text = yaml.safe_dump(resource, sort_keys=True)
    if text in seen:
        return
    seen.add(text)
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(resource, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            check(False, f"{name_of(resource)}: {error.message} at {list(error.path)} (Kubernetes {version})")


def pods(resources):
    """The templates of pods, with what makes them."""
    return [(resource, resource["spec"]["template"]) for resource in resources if resource["kind"] in ("Deployment", "Job")]


def check_pod(owner, template):
    name, spec = name_of(owner), template["spec"]
    check(spec["securityContext"].get("runAsNonRoot") is True, f"{name} may run as root")
    check(spec.get("automountServiceAccountToken") is False, f"{name} is given a token of the cluster")
    for container in spec["containers"]:
        security = container.get("securityContext", {})
        check(security.get("readOnlyRootFilesystem") is True, f"{name} may write to its image")
        check(security.get("allowPrivilegeEscalation") is False, f"{name} may gain rights")
        check(security.get("capabilities", {}).get("drop") == ["ALL"], f"{name} keeps capabilities")
        for kind in ("requests", "limits"):
            check({"cpu", "memory"} <= container.get("resources", {}).get(kind, {}).keys(), f"{name} has no {kind}")
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        check(mounted == {volume["name"] for volume in spec.get("volumes", [])}, f"{name} mounts other volumes than it has")
        if owner["kind"] == "Deployment":
            probes = {"startupProbe", "readinessProbe", "livenessProbe"}
            check(probes <= container.keys(), f"{name} lacks a probe")
            ports = {port["name"] for port in container["ports"]}
            check(all(container[probe]["httpGet"]["port"] in ports for probe in probes & container.keys()), f"{name}: a probe asks another port")
            check(container["readinessProbe"]["httpGet"]["path"] == "/readyz", f"{name} is ready without asking")
            check(container["livenessProbe"]["httpGet"]["path"] == "/healthz", f"{name} is restarted when a server is away")


def check_stop(owner, template, settings):
    """A pod is killed no sooner than its process has had its time."""
    grace = template["spec"].get("terminationGracePeriodSeconds", 30)
    needed = max(int(settings["SHUTDOWN_TIMEOUT_S"]), int(settings["WORKER_GRACE_S"]) + 6) + MARGIN_S
    check(grace >= needed, f"{name_of(owner)} is killed after {grace} s, and may take {needed}")


def check_settings(settings):
    drain = int(settings["DRAIN_DELAY_S"]) + int(settings["WS_DRAIN_S"])
    check(int(settings["SHUTDOWN_TIMEOUT_S"]) > drain, "SHUTDOWN_TIMEOUT_S is not above DRAIN_DELAY_S and WS_DRAIN_S")
    known = {line.lstrip("#").split("=")[0] for line in open("../../.env.example") if re.match(r"#?[A-Z][A-Z0-9_]*=", line)}
    unknown = [name for name in settings if not known & {name, name.removesuffix("_FILE")}]
    check(not unknown, f"settings.env has what is no setting: {unknown}")


def check_connections(resources, settings):
    """PostgreSQL's connections are shared out among as many processes as there may be at once."""
    most = {}
    for resource in resources:
        spec = resource.get("spec", {})
        if resource["kind"] == "Deployment":
            most.setdefault(resource["metadata"]["name"], spec.get("replicas", 1))
    for resource in resources:
        spec = resource.get("spec", {})
        if "scaleTargetRef" in spec:
            most[spec["scaleTargetRef"]["name"]] = spec.get("maxReplicas") or spec["maxReplicaCount"]
    # What replaces a pod is there before that has gone.
    surges = [resource["spec"]["strategy"]["rollingUpdate"]["maxSurge"] for resource in resources if resource["kind"] == "Deployment"]
    needed = sum(most.values()) + sum(surges)
    check(int(settings["DB_PROCESSES"]) == needed, f"DB_PROCESSES is {settings['DB_PROCESSES']}, and there may be {needed}: {most}")


def check_keep_alive(settings):
    """ingress-nginx keeps connections for 60 s: the API must not be the first to close one."""
    kept = settings.get("API_KEEP_ALIVE_S", "5" if settings["APP_PROFILE"] == "maximum" else "65")
    check(int(kept) > 60, f"the API closes connections after {kept} s")


def check_names(resources):
    """Whatever is named is there: what selectors select, and what pods take their settings from."""
    labels = [template["metadata"]["labels"] for _, template in pods(resources)]

    def selects(selector):
        return any(selector.items() <= of_pod.items() for of_pod in labels)

    names = {name_of(resource) for resource in resources}
    for resource in resources:
        spec = resource.get("spec", {})
        selector = {"Service": spec.get("selector"), "NetworkPolicy": spec.get("podSelector", {}).get("matchLabels", {})}.get(
            resource["kind"], spec.get("selector", {}).get("matchLabels") if isinstance(spec.get("selector"), dict) else None
        )
        if selector is not None and resource["kind"] != "ServiceMonitor":
            check(selects(selector), f"{name_of(resource)} selects no pod")
        target = spec.get("scaleTargetRef")
        if target:
            check(f"{target.get('kind', 'Deployment')}/{target['name']}" in names, f"{name_of(resource)} scales what is not there")
    # The signing keys are made by hand.
    made_by_hand = {"Secret/millrace-keys"}
    for owner, template in pods(resources):
        spec = template["spec"]
        wanted = {f"ConfigMap/{source['configMapRef']['name']}" for container in spec["containers"] for source in container.get("envFrom", [])}
        wanted |= {f"ConfigMap/{volume['configMap']['name']}" for volume in spec["volumes"] if "configMap" in volume}
        wanted |= {f"Secret/{volume['secret']['secretName']}" for volume in spec["volumes"] if "secret" in volume}
        check(wanted <= names | made_by_hand, f"{name_of(owner)} wants what is not there: {wanted - names - made_by_hand}")


def settings_of(resources):
    for resource in resources:
        if resource["kind"] == "ConfigMap" and resource["metadata"]["name"].startswith("millrace-settings"):
            return resource["data"]
    return dict(line.strip().split("=", 1) for line in open("base/settings.env") if "=" in line and not line.startswith("#"))


def main(arguments):
    is_plain = arguments[0] == "--plain"
    paths = arguments[1:] if is_plain else arguments
    files = {path: [resource for resource in yaml.safe_load_all(open(path)) if resource] for path in paths}
    groups = {"the files": sum(files.values(), [])} if is_plain else files
    seen = set()
    for path, resources in groups.items():
        before = len(faults)
        settings = settings_of(resources)
        check_settings(settings)
        for resource in resources:
            check_schemas(resource, seen)
        for owner, template in pods(resources):
            check_pod(owner, template)
            if owner["kind"] == "Deployment":
                check_stop(owner, template, settings)
        check_keep_alive(settings)
        if not is_plain:
            check_connections(resources, settings)
            check_names(resources)
        print(f"   {path.rsplit('/', 1)[-1]}: {len(resources)} resources, {len(faults) - before} faults")
    for fault in faults:
        print(f"fault: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
