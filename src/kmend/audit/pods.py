"""What to do about a container of a Kubernetes pod: the field of its pod, where others have an option.

Source: Kubernetes documentation, API reference, “Pod” (v1), and “Kubelet Configuration (v1beta1)”.
"""

from __future__ import annotations

from collections.abc import Mapping

_CAPABILITIES = "Take it out of `securityContext.capabilities.add`; drop ALL there, and add what is needed."
_EXEC = "End the process; let fewer people `kubectl exec` (RBAC: pods/exec)."
_PATH = "Take the `hostPath` volume out of the pod"

REMEDIES: Mapping[str, str] = {
    "container-root": "Set `securityContext.runAsNonRoot` and `runAsUser`, or `hostUsers: false` for the pod.",
    "container-apparmor": "Set `appArmorProfile.type: RuntimeDefault`; before Kubernetes 1.30 an annotation.",
    "container-selinux": "Set the runtime's `enable_selinux`, and no `seLinuxOptions.type` that confines nothing.",
    "container-capabilities": _CAPABILITIES,
    "container-privileged": "Set `securityContext.privileged: false`; add the one capability that it needs.",
    "container-host-network": "Set `hostNetwork: false`.",
    "container-host-pids": "Set `hostPID: false`.",
    "container-host-ipc": "Set `hostIPC: false`.",
    "container-host-uts": "It comes with `hostNetwork: true`; take that out.",
    "container-host-cgroups": "Take out `securityContext.privileged`; on cgroup v2 the runtime then gives it one.",
    "container-seccomp": "Set `seccompProfile.type: RuntimeDefault`, or the kubelet's `seccompDefault`.",
    "container-strong-exec": _EXEC,
    "container-root-exec": _EXEC,
    "container-new-privileges": "Set `securityContext.allowPrivilegeEscalation: false`.",
    "container-host-users": "Set `hostUsers: false` for the pod.",
    "container-host-folders": f"{_PATH}, or mount one folder of it with `readOnly: true`.",
    "container-devices": "Ask for it by a device plugin, not by `privileged` or a `hostPath` volume.",
    "container-shared-mounts": "Set `mountPropagation: None`.",
    "container-engine-socket": f"{_PATH} that holds the socket.",
    "container-masks": "Set `securityContext.procMount: Default`, and `privileged: false`.",
    "container-kernel-writable": "Set `securityContext.privileged: false`, or take the volume out.",
    "container-memory": "Set `resources.limits.memory`.",
    "container-cpu": "Set `resources.requests.cpu`.",
    "container-read-only": "Set `securityContext.readOnlyRootFilesystem`; `emptyDir` volumes hold what it writes.",
    "container-one-address": "Name `hostIP` beside `hostPort`, or use a Service.",
    "container-admin-ports": "Take out `hostPort`; a Service of type ClusterIP is for the cluster alone.",
    "container-low-ports": "Take out `hostPort`; let an Ingress or a load balancer have the port.",
    "container-logins": "Take it out of the image; use `kubectl exec`.",
    "container-ulimits": "Set them in the runtime's `base_runtime_spec`; a pod has no field for them.",
    "container-pids": "Set `podPidsLimit` in the kubelet's configuration.",
    "container-current": "Roll it out anew: `kubectl rollout restart`.",
}
"""Check → remedy for pods; where it is silent the check's own fits them too."""


def remedy_for_pods(check: str) -> str:
    """What to do in a pod; empty where the check's own remedy fits."""
    remedy = _CAPABILITIES if check.startswith("container-cap-") else REMEDIES.get(check, "")
    return f"Pod: {remedy}" if remedy else ""
