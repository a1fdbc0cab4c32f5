#!/usr/bin/env python3
"""What the manifests of Kubernetes say of each other holds: names, labels, ports, volumes.

Needs PyYAML. With `kubernetes-validate` of PyPI each object is also held against Kubernetes' own
schemas, of the oldest and the newest version there that has all that is used; else that is said.
Left out: anything that only a cluster can tell.
"""

import re
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent.parent
FOLDER = HERE / "kubernetes"
# With probes by gRPC; the newest that the library knows comes from it.
OLDEST = "1.27"
NAME = re.compile(r"(stator-\d)\.(stator-nodes):(\d+)")


def documents(folder):
    for path in sorted((FOLDER / folder).glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield path.relative_to(HERE), document


def only(objects, kind):
    return [found for found in objects if found["kind"] == kind]


def pod_problems(pod, objects, outside):
    """What a pod refers to that is not there; `outside` are the secrets that an operator makes."""
    maps = {found["metadata"]["name"] for found in only(objects, "ConfigMap")}
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", ())}
    for volume in volumes.values():
        if "configMap" in volume and volume["configMap"]["name"] not in maps:
            yield f"there is no ConfigMap {volume['configMap']['name']}"
        if "secret" in volume and volume["secret"]["secretName"] not in outside:
            yield f"nobody is told to make the secret {volume['secret']['secretName']}"
    for container in pod["spec"]["containers"]:
        ports = {port["containerPort"] for port in container.get("ports", ())}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            told = container.get(probe, {})
            for way in ("grpc", "tcpSocket"):
                if told.get(way) and told[way]["port"] not in ports:
                    yield f"{probe} asks port {told[way]['port']}, which the pod does not name"


def node_problems(objects):
    (nodes,) = only(objects, "StatefulSet")
    spec, pod = nodes["spec"], nodes["spec"]["template"]
    labels = pod["metadata"]["labels"].items()
    container = pod["spec"]["containers"][0]
    names = {port["name"] for port in container["ports"]}
    services = {found["metadata"]["name"]: found["spec"] for found in only(objects, "Service")}
    head = services.get(spec["serviceName"], {})
    if head.get("clusterIP") != "None" or not head.get("publishNotReadyAddresses"):
        yield f"{spec['serviceName']} is no headless service that names nodes before they are ready"
    selectors = [(name, service["selector"]) for name, service in services.items()]
    for kind in ("PodDisruptionBudget", "StatefulSet"):
        selectors += [(kind, found["spec"]["selector"]["matchLabels"]) for found in only(objects, kind)]
    selectors += [
        (found["kind"], found["spec"]["podSelector"]["matchLabels"])
        for found in only(objects, "NetworkPolicy")
    ]
    for name, selector in selectors:
        if not selector.items() <= labels:
            yield f"{name} selects other pods than the nodes: {selector}"
    opened = [port["targetPort"] for service in services.values() for port in service["ports"]]
    for policy in only(objects, "NetworkPolicy"):
        opened += [port["port"] for rule in policy["spec"]["ingress"] for port in rule.get("ports", ())]
    for name in set(opened) - names:
        yield f"the nodes have no port {name}"
    claims = {claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]}
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]} | claims
    for mount in container["volumeMounts"]:
        if mount["name"] not in volumes:
            yield f"there is no volume {mount['name']}"
    yield from address_problems(objects, spec, container)


def address_problems(objects, spec, container):
    """Names of nodes are those that the set gives, each port the one of what is spoken to."""
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for variable in container["env"]:
        if told := re.fullmatch(r"STATOR_ADVERTISE_(\w+)", variable["name"]):
            host = f"$(POD).{spec['serviceName']}.$(NAMESPACE).svc"
            if variable["value"] != f"{host}:{ports[told[1].lower()]}":
                yield f"{variable['name']} is {variable['value']}"
    pods = {f"stator-{number}" for number in range(spec["replicas"])}
    (job,) = only(objects, "Job")
    (settings,) = only(objects, "ConfigMap")
    words = " ".join(job["spec"]["template"]["spec"]["containers"][0]["args"])
    text = settings["data"]["stator.toml"]
    for where, told, port in (("init", words, ports["admin"]), ("seeds", text, ports["peer"])):
        found = NAME.findall(told)
        if {name for name, _, _ in found} != pods or {int(number) for *_, number in found} != {port}:
            yield f"{where} names {found}, and there are {sorted(pods)} at port {port}"
    for whose, port in re.findall(r'(?m)^(\w+)_listen = ".*:(\d+)"', text):
        if ports[whose] != int(port):
            yield f"{whose}_listen is {port}, and the pod's port {ports[whose]}"


def schema_problems(found):
    try:
        import kubernetes_validate
    except ImportError:
        print("skipped: Kubernetes' schemas (no kubernetes-validate of PyPI)")
        return
    for version in (OLDEST, kubernetes_validate.latest_version()):
        for path, document in found:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{path}: {document['kind']}: Kubernetes {version}: {error.message}"


def tls_problems(objects):
    """What the patches are about is there, and each of them is listed."""
    documents_of = list(documents("tls"))
    listed = {patch["path"] for _, document in documents_of for patch in document.get("patches", ())}
    there = {path.name for path, _ in documents_of} - {"kustomization.yaml"}
    for name in sorted(listed ^ there):
        yield f"tls: {name} is not listed, or not there"
    known = {(found["kind"], found["metadata"]["name"]) for found in objects}
    for path, patch in documents_of:
        if path.name in there and (patch["kind"], patch["metadata"]["name"]) not in known:
            yield f"tls: nothing is patched by {path.name}"


def main():
    plain = list(documents("plain"))
    found = [(path, document) for path, document in plain if document["kind"] != "Kustomization"]
    objects = [document for _, document in found]
    (kustomization,) = [document for _, document in plain if document["kind"] == "Kustomization"]
    listed = set(kustomization["resources"]) | {"init.yaml", "kustomization.yaml"}
    there = {path.name for path, _ in plain}
    problems = [f"plain: {name} is not listed, or not there" for name in sorted(listed ^ there)]
    (nodes,) = only(objects, "StatefulSet")
    problems += pod_problems(nodes["spec"]["template"], objects, {"stator"})
    problems += [*node_problems(objects), *tls_problems(objects), *schema_problems(found)]
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    sys.exit(bool(problems))


main()
