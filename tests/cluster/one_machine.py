"""cluster.yaml for one machine without Docker or a cloud, and that machine: a namespace of its own.

`ray up` and `ray down` begin and end with ``ray stop``, which stops every Ray that it sees. So the
machine is a set of Linux namespaces: processes, network and mounts of its own, which need root.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("sshd", "ssh", "ssh-keygen", "rsync", "unshare", "mount", "ip")

_SSHD = """Port 22
ListenAddress 127.0.0.1
HostKey {home}/host_key
AuthorizedKeysFile {home}/.ssh/authorized_keys
PidFile {home}/sshd.pid
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
"""

# Root gets another home and Ray another folder, so that nothing of this machine's own is touched.
_BOOT = """set -eu
ip link set lo up
mkdir -p /run/sshd /tmp/ray
mount --bind {home}/passwd /etc/passwd
mount -t tmpfs tmpfs /tmp/ray
export HOME={home}
cd {home}
{sshd} -f {home}/sshd_config
exec bash --login {home}/commands.sh
"""


def why_not() -> str:
    """Why there can be no such machine here; empty if there can."""
    missing = [
        tool for tool in TOOLS if not shutil.which(tool, path="/usr/sbin:/usr/bin:/bin:/sbin")
    ]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: openssh-server, rsync, iproute2)"
    alone = ["unshare", "--pid", "--net", "--mount", "--fork", "--mount-proc", "ip", "link"]
    if subprocess.run(alone, capture_output=True).returncode:
        return "only root can make a machine of namespaces"
    return ""


def local_file(cluster: dict[str, Any], shared: Path) -> tuple[dict[str, Any], list[str]]:
    """The cluster file with what one machine has not replaced, and the environment it sets.

    Provider and addresses are replaced; Docker, its image and the mount of the shared folder fall
    away. Environment, file mounts, excluded files and the commands that start Ray stay.
    """
    docker = cluster["docker"]
    options = " ".join([*docker["run_options"], *docker["head_run_options"]])
    environment = [
        assignment.replace("/shared", str(shared))
        for assignment in re.findall(r"--env (\S+)", options)
    ]
    start = [
        command.replace("ulimit -n 65536; ", "") for command in cluster["head_start_ray_commands"]
    ]
    file = {
        "cluster_name": cluster["cluster_name"],
        "provider": {"type": "local", "head_ip": "127.0.0.1", "worker_ips": []},
        "auth": {"ssh_user": "root", "ssh_private_key": "~/.ssh/id_ed25519"},
        "min_workers": 0,
        "max_workers": 0,
        "upscaling_speed": cluster["upscaling_speed"],
        "idle_timeout_minutes": cluster["idle_timeout_minutes"],
        "file_mounts": {
            target.replace("/home/ray", "~"): str(ROOT) if source == "." else source
            for target, source in cluster["file_mounts"].items()
        },
        "rsync_exclude": cluster["rsync_exclude"],
        "rsync_filter": cluster["rsync_filter"],
        "head_start_ray_commands": start,
        "worker_start_ray_commands": cluster["worker_start_ray_commands"],
    }
    return file, environment


def make_home(home: Path, environment: list[str]) -> None:
    """A home folder with keys, the server's settings, and a profile that every shell reads."""
    (home / ".ssh").mkdir(parents=True)
    for key in (home / ".ssh" / "id_ed25519", home / "host_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
        subprocess.run(command, check=True)
    shutil.copy(home / ".ssh" / "id_ed25519.pub", home / ".ssh" / "authorized_keys")
    (home / "sshd_config").write_text(_SSHD.format(home=home))
    users = Path("/etc/passwd").read_text()
    (home / "passwd").write_text(
        re.sub(r"(?m)^(root:.*):[^:]*:[^:]*$", rf"\1:{home}:/bin/bash", users)
    )
    path = f"PATH={Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    lines = [f"export {assignment}" for assignment in [*environment, path]]
    (home / ".bash_profile").write_text("\n".join(lines) + "\n")


def run_on_it(home: Path, commands: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Boot the machine, run a script as root, switch the machine off with all its processes."""
    (home / "commands.sh").write_text(commands)
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    (home / "boot.sh").write_text(_BOOT.format(home=home, sshd=sshd))
    # A fresh machine knows nothing of a Ray that this process has had.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    namespaces = ["--pid", "--net", "--mount", "--fork", "--mount-proc", "--kill-child"]
    return subprocess.run(
        ["unshare", *namespaces, "bash", str(home / "boot.sh")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        env=environment,
    )
