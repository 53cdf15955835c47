"""Holds docker-compose.prod.yml and deploy/kubernetes to their schemas and to what every part of them
must have. Prints the variables of each part; ends with 1 and every fault otherwise."""

import json
import pathlib
import sys

sys.path.insert(0, "target/deploy/site")
import kubernetes_validate  # noqa: E402
import yaml  # noqa: E402
from compose_spec.compose_spec import PyCompose  # noqa: E402

KUBERNETES = "1.34"
# server.shutdown_delay in production, what requests under way may take, and some.
GRACE_SECONDS = 10 + 30 + 10
faults = []


def claim(holds, fault):
    if not holds:
        faults.append(fault)


def compose(file):
    text = pathlib.Path(file).read_text()
    document = yaml.safe_load(text)
    # Unknown keys, values of other types, and names that nothing has are errors.
    PyCompose.from_yaml(yaml.safe_dump(document)).validate()
    services = document["services"]
    for name, service in services.items():
        claim(service.get("read_only") is True, f"{name}: its root can be written")
        claim(service.get("cap_drop") == ["ALL"], f"{name}: it keeps capabilities")
        claim("no-new-privileges:true" in service.get("security_opt", []), f"{name}: new privileges")
        limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
        claim({"cpus", "memory", "pids"} <= limits.keys(), f"{name}: no limits")
        claim(":" in service["image"] or "build" in service, f"{name}: an image without a version")
        claim(not service.get("privileged") and "network_mode" not in service, f"{name}: privileged")
        for other, condition in service.get("depends_on", {}).items():
            healthy = condition["condition"] == "service_healthy"
            checked = "healthcheck" in services[other] or "build" in services[other]
            claim(not healthy or checked, f"{name}: waits for the health of {other}, which has none")
        for kind in ("secrets", "networks"):
            for used in service.get(kind, []):
                claim(used in document[kind], f"{name}: {used} is no {kind[:-1]}")
        for variable, value in (service.get("environment") or {}).items():
            is_secret = any(word in variable for word in ("PASSWORD", "KEY", "URL"))
            claim(not is_secret or variable.endswith("FILE"), f"{name}: {variable} is no file")
            if str(value).startswith("/run/secrets/"):
                claim(value.removeprefix("/run/secrets/") in service.get("secrets", []), f"{name}: {value}")
        for volume in service.get("volumes", []):
            source, _, mode = volume.partition(":")
            if source.startswith("."):
                claim(pathlib.Path(source).exists(), f"{name}: {source} does not exist")
                claim(mode.endswith(":ro"), f"{name}: {source} can be written")
            else:
                claim(source in document["volumes"], f"{name}: {source} is no volume")
    instances = [name for name in services if name.startswith("orchestrator-")]
    claim(len(instances) >= 2, "fewer than two instances")
    for name in instances:
        seconds = int(services[name]["stop_grace_period"].removesuffix("s"))
        claim(seconds >= GRACE_SECONDS, f"{name}: is killed after {seconds} s")
        address = services[name]["networks"]["front"]["ipv4_address"]
        upstream = pathlib.Path("deploy/nginx/upstream.conf").read_text()
        claim(f"server {address}:8000 " in upstream, f"{name}: nginx does not know {address}")
    proxy = services["nginx"]["networks"]["front"]["ipv4_address"]
    trusted = services[instances[0]]["environment"]["ORCHESTRATION_SECURITY__TRUSTED_PROXIES"]
    claim(trusted == f"[{proxy}]", f"the proxy {proxy} is not the trusted one")
    made = pathlib.Path("deploy/secrets").read_text()
    for name, secret in document["secrets"].items():
        claim(name in made, f"deploy/secrets does not make {name}")
        claim(secret == {"file": f"secrets/{name}"}, f"{name}: is no file of its name")
    return {name: service.get("environment", {}) for name, service in services.items()}


def hardened(where, pod):
    context = pod["securityContext"]
    claim(context["runAsNonRoot"] is True, f"{where}: may be root")
    claim(context["seccompProfile"]["type"] == "RuntimeDefault", f"{where}: no seccomp")
    claim(pod["automountServiceAccountToken"] is False, f"{where}: holds a token of the cluster")
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        own = container["securityContext"]
        claim(own["allowPrivilegeEscalation"] is False, f"{where}: new privileges")
        claim(own["readOnlyRootFilesystem"] is True, f"{where}: its root can be written")
        claim(own["capabilities"] == {"drop": ["ALL"]}, f"{where}: it keeps capabilities")
        claim("memory" in container["resources"]["limits"], f"{where}: no limit of memory")
        for mount in container["volumeMounts"]:
            claim(mount["name"] in volumes, f"{where}: {mount['name']} is no volume")
            claim("subPath" not in mount, f"{where}: {mount['name']} is never brought up to date")


def kubernetes(folder):
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    files = {file.name for file in folder.glob("*.yaml")} - {"kustomization.yaml"}
    claim(set(listed) == files, f"kustomization.yaml lists {listed}, and there are {sorted(files)}")
    objects = [made for name in sorted(files) for made in yaml.safe_load_all((folder / name).read_text())]
    for made in objects:
        try:
            kubernetes_validate.validate(made, KUBERNETES, strict=True)
        except Exception as error:  # its own kinds differ between versions
            faults.append(f"{made['kind']} {made['metadata']['name']}: {error}")
    by_kind = {}
    for made in objects:
        by_kind.setdefault(made["kind"], []).append(made)
        if made["kind"] != "Namespace":
            claim(made["metadata"]["namespace"] == "orchestrator", f"{made['kind']}: elsewhere")
    names = {made["metadata"]["name"] for made in by_kind["ConfigMap"]}
    for made in by_kind["Deployment"] + by_kind["Job"]:
        pod = made["spec"]["template"]["spec"]
        hardened(made["metadata"]["name"], pod)
        for volume in pod["volumes"]:
            claim("configMap" not in volume or volume["configMap"]["name"] in names, str(volume))
    [deployment] = by_kind["Deployment"]
    pod = deployment["spec"]["template"]
    claim(pod["spec"]["terminationGracePeriodSeconds"] >= GRACE_SECONDS, "pods are killed early")
    claim("replicas" not in deployment["spec"], "every apply undoes what the HPA chose")
    [container] = pod["spec"]["containers"]
    claim(container["readinessProbe"]["httpGet"]["path"] == "/health/ready", "not asked whether ready")
    claim(container["livenessProbe"]["httpGet"]["path"] == "/health/live", "killed for what others lack")
    labels = pod["metadata"]["labels"].items()
    for kind, path in (("Service", ("selector",)), ("PodDisruptionBudget", ("selector", "matchLabels")),
                       ("Deployment", ("selector", "matchLabels"))):
        selector = by_kind[kind][0]["spec"]
        for step in path:
            selector = selector[step]
        claim(selector.items() <= labels, f"{kind}: selects other pods")
    [scaler] = by_kind["HorizontalPodAutoscaler"]
    claim(scaler["spec"]["minReplicas"] >= 2, "one instance is no rolling upgrade")
    claim("cpu" in container["resources"]["requests"], "the HPA has nothing to compare with")
    deny = next(made for made in by_kind["NetworkPolicy"] if made["metadata"]["name"] == "deny")
    claim(deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}, "not denied by default")
    [settings] = [made["data"] for made in by_kind["ConfigMap"] if "settings" in made["metadata"]["name"]]
    [migrate] = by_kind["Job"][0]["spec"]["template"]["spec"]["containers"]
    of = {"kubernetes": container, "kubernetes migrate": migrate}
    variables = {name: {one["name"]: one["value"] for one in made["env"]} for name, made in of.items()}
    variables["kubernetes"].update(settings)
    return variables


def systemd(file):
    lines = pathlib.Path(file).read_text().splitlines()
    for beside in [line.removeprefix("EnvironmentFile=") for line in lines if line.startswith("EnvironmentFile=")]:
        own = pathlib.Path(file).with_name(pathlib.Path(beside).name).read_text().splitlines()
        lines += ["Environment=" + line for line in own if line and not line.startswith("#")]
    said = " ".join(line.removeprefix("Environment=") for line in lines if line.startswith("Environment="))
    return {"systemd": dict(word.split("=", 1) for word in said.split())}


looked = compose("docker-compose.prod.yml") | kubernetes(pathlib.Path("deploy/kubernetes"))
looked |= systemd("deploy/systemd/orchestrator.service")
if faults:
    sys.exit("\n".join(faults))
# The variables of each part, for the program itself to judge.
print(json.dumps(looked))
