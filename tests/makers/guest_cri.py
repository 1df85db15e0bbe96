"""A Kubernetes node's runtime in the guest: Debian's containerd with its CRI, driven as a kubelet drives it."""

import json
from pathlib import Path

PACKAGES = ("python3-grpcio", "containernetworking-plugins")
CLIENT = "/srv/cri_client.py"
PAUSE = "docker.io/library/pause:1"
CONFIG = f"""\
version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
"""
NETWORK = {
    "cniVersion": "0.4.0",
    "name": "lab",
    "plugins": [{"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.55.0.0/24"}}],
}
DOCKERFILE = 'FROM kmend-lab\nENTRYPOINT ["/bin/busybox", "sleep", "100000"]\n'
START = """
docker build -q -t pause:1 /srv/pause
docker save pause:1 -o /srv/pause.tar
systemctl restart containerd
ctr -n k8s.io images import /srv/pause.tar
rm /srv/pause.tar
"""


def start_cri(vm):
    """Restart containerd with its CRI, and give it an image for the pods themselves."""
    vm.put("/etc/containerd/config.toml", CONFIG.encode())
    vm.must(["mkdir", "-p", "/etc/cni/net.d", "/srv/pause"])
    vm.put("/etc/cni/net.d/10-lab.conflist", json.dumps(NETWORK).encode())
    vm.put("/srv/pause/Dockerfile", DOCKERFILE.encode())
    vm.must(["sh", "-ec", START], timeout=600)
    vm.put(CLIENT, (Path(__file__).parent / "cri_client.py").read_bytes())


def make_pods(vm, pods):
    """Ids by ``pod`` and ``pod/container``."""
    return json.loads(vm.must(["python3", CLIENT, json.dumps(pods)], timeout=600))
