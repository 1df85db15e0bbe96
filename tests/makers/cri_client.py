"""Runs in a guest: makes pods as a kubelet does, by the CRI (kubernetes/cri-api, runtime/v1/api.proto).

    cri_client.py PODS

PODS is JSON: a list of {"namespace", "name", "host_network", "containers": [{"name", "image", "command", "user",
"privileged", "unconfined", "add", "drop", "mounts": {inside: outside}}]}. Prints ``{"pod/container": id}``.
"""

import json
import sys

import grpc

SOCKET = "unix:///run/containerd/containerd.sock"
NODE = 2
UNCONFINED = 1
MASKED = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/sys/firmware")
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def varint(value):
    """Base 128, the lowest seven bits first."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def number(field, value):
    """A field of a number."""
    return varint(field << 3) + varint(value)


def part(field, value):
    """A field of a text or a message."""
    content = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(content)) + content


def pairs(field, words):
    """A map of texts."""
    return b"".join(part(field, part(1, key) + part(2, value)) for key, value in words.items())


def ask(channel, verb, request):
    """The first text of the answer: each of them has the id there."""
    call = channel.unary_unary(
        f"/runtime.v1.RuntimeService/{verb}", request_serializer=bytes, response_deserializer=bytes
    )
    answer = call(request, timeout=300)
    return answer[2 : 2 + answer[1]].decode() if answer else ""


def sandbox(pod):
    """PodSandboxConfig."""
    security = part(1, number(1, NODE)) if pod.get("host_network") else b""
    if any(one.get("privileged") for one in pod["containers"]):
        security += number(6, 1)
    return (
        part(1, part(1, pod["name"]) + part(2, f"uid-{pod['name']}") + part(3, pod["namespace"]))
        + part(2, "" if pod.get("host_network") else pod["name"])
        + pairs(6, {"io.kubernetes.pod.name": pod["name"], "io.kubernetes.pod.namespace": pod["namespace"]})
        + part(8, part(1, f"/kubepods/besteffort/pod{pod['name']}") + part(2, security))
    )


def container(one, pod):
    """ContainerConfig."""
    rights = b"".join(part(1, name) for name in one.get("add", ())) + b"".join(
        part(2, name) for name in one.get("drop", ())
    )
    security = part(1, rights) + (number(2, 1) if one.get("privileged") else b"")
    if pod.get("host_network"):
        security += part(3, number(1, NODE))
    if "user" in one:
        security += part(5, number(1, one["user"]))
    if not one.get("privileged"):
        security += b"".join(part(13, path) for path in MASKED) + b"".join(part(14, path) for path in READ_ONLY)
    security += part(15, number(1, UNCONFINED) if one.get("unconfined") else b"")
    return (
        part(1, part(1, one["name"]))
        + part(2, part(1, one["image"]))
        + b"".join(part(3, word) for word in one["command"])
        + b"".join(
            part(7, part(1, inside) + part(2, outside)) for inside, outside in one.get("mounts", {}).items()
        )
        + pairs(9, {"io.kubernetes.container.name": one["name"]})
        + part(15, part(1, b"") + part(2, security))
    )


def main():
    """Make them all."""
    made = {}
    with grpc.insecure_channel(SOCKET) as channel:
        for pod in json.loads(sys.argv[1]):
            config = sandbox(pod)
            inside = ask(channel, "RunPodSandbox", part(1, config))
            made[pod["name"]] = inside
            for one in pod["containers"]:
                request = part(1, inside) + part(2, container(one, pod)) + part(3, config)
                key = ask(channel, "CreateContainer", request)
                ask(channel, "StartContainer", part(1, key))
                made[f"{pod['name']}/{one['name']}"] = key
    sys.stdout.write(json.dumps(made))


main()
