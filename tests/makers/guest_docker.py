"""What tests do with the Docker of a running guest, and images that were built with care and without."""

SLEEP = "/bin/busybox sleep 100000"

DOCKERFILE_WRONG = """\
FROM kmend-lab
ENV DB_PASSWORD=geheim
ADD Dockerfile /added
RUN /bin/busybox true || apt-get update
RUN /bin/busybox true || curl -k https://example.net/tool
RUN /bin/busybox cp /bin/busybox /bin/tool && /bin/busybox chmod 4755 /bin/tool && \
    /bin/busybox mkdir -p /var/lib/dpkg /etc && \
    /bin/busybox printf 'Package: gcc\\nStatus: install ok installed\\nVersion: 1-2\\n' > /var/lib/dpkg/status && \
    /bin/busybox printf 'ID=debian\\nVERSION_ID=9\\n' > /etc/os-release
"""
DOCKERFILE_RIGHT = """\
FROM kmend-lab
COPY Dockerfile /copied
RUN /bin/busybox mkdir -p /var/lib/dpkg /etc && \
    /bin/busybox printf 'Package: a\\nStatus: install ok installed\\nVersion: 1-2\\n' > /var/lib/dpkg/status && \
    /bin/busybox printf 'ID=debian\\nVERSION_ID=12\\n' > /etc/os-release
USER 1000
HEALTHCHECK CMD /bin/busybox true
"""


def shell(vm, script, *, timeout=600):
    """Run lines in the guest; the first that fails ends the test."""
    return vm.must(["sh", "-ec", script], timeout=timeout)


def restart_docker(vm):
    """With the settings as they are now."""
    shell(vm, "systemctl daemon-reload; systemctl restart docker.service docker.socket", timeout=900)
    vm.wait_docker()


def build(vm, name, dockerfile):
    """Make an image in the guest from what a Dockerfile says."""
    shell(vm, f"mkdir -p /srv/{name}")
    vm.put(f"/srv/{name}/Dockerfile", dockerfile.encode())
    shell(vm, f"docker build -t {name}:1 /srv/{name}", timeout=900)


def start_careful(vm):
    """A container that is confined, of the image ``right:1``."""
    shell(vm, "docker network create front")
    options = (
        "--read-only --cap-drop ALL --security-opt no-new-privileges --memory 64m --cpu-shares 512 "
        "--pids-limit 50 --restart on-failure:5 --network front -p 127.0.0.1:8080:80"
    )
    shell(vm, f"docker run -d --name good {options} $(docker image inspect -f '{{{{.Id}}}}' right:1) {SLEEP}")
