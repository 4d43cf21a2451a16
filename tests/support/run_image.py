"""Run an unpacked image as a container would: `unshare --net --mount python -m tests.support.run_image ROOT CONFIG`.

ROOT is its file system, which becomes read-only, CONFIG the file of its configuration (`buildah inspect`). The service runs as the image's user, with
the image's command and environment; it has no network but its own loopback, and writes to the image's volumes and /tmp alone. A key is made, a sentence
translated, and the service ended. Prints what was seen as one object of JSON.
"""

from __future__ import annotations

import fcntl
import json
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

WRITTEN = ("tmp", "var/cache/tellmt", "srv/tellmt/keys", "srv/tellmt/registry", "srv/tellmt/state")
URL = "http://127.0.0.1:8080"


def loopback_up() -> None:
    """Of a new network namespace even the loopback is down."""
    siocgifflags, siocsifflags, up = 0x8913, 0x8914, 1
    with socket.socket() as s:
        flags = struct.unpack("16sh", fcntl.ioctl(s, siocgifflags, struct.pack("16sh", b"lo", 0)))[1]
        fcntl.ioctl(s, siocsifflags, struct.pack("16sh", b"lo", flags | up))


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def prepare(root: Path, uid: str) -> None:
    mount("--make-rprivate", "/")
    mount("--bind", str(root), str(root))
    mount("-o", "remount,bind,ro", str(root))
    mount("--rbind", "/dev", str(root / "dev"))
    mount("-t", "proc", "proc", str(root / "proc"))
    for place in WRITTEN:
        mount("-t", "tmpfs", "-o", f"uid={uid},gid={uid},mode=0750", "tmpfs", str(root / place))


def ask(path: str, key: str = "", body: Any = None) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json", **({"X-API-Key": key} if key else {})}
    request = urllib.request.Request(URL + path, json.dumps(body).encode() if body else None, headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=300) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as e:
        return e.code, None
    except OSError:
        return 0, None


def main(root: Path, config: dict[str, Any], seconds: float) -> dict[str, Any]:
    user = config["User"]
    loopback_up()
    prepare(root, user.split(":")[0])
    environment = dict(e.split("=", 1) for e in config["Env"])
    inside = ["chroot", f"--userspec={user}", str(root), "/usr/bin/env", "-C", config["WorkingDir"]]

    def run(*words: str) -> str:
        done = subprocess.run([*inside, *words], env=environment, capture_output=True, text=True, check=False)
        return done.stdout.strip() if not done.returncode else f"{done.returncode}: {done.stderr.strip()}"

    seen: dict[str, Any] = {"key": run("tellmt", "keys", "add", "website"), "user": run("id", "-u")}
    seen["root"] = run("sh", "-c", "touch /opt/tellmt/x 2>&1 || true")
    began = time.monotonic()
    with (root / "tmp" / "log").open("w+") as log:
        service = subprocess.Popen([*inside, *config["Entrypoint"], *config["Cmd"]], env=environment, stdout=log, stderr=log)
        while ask("/ready")[0] != 200 and service.poll() is None and time.monotonic() - began < seconds:
            time.sleep(0.5)
        seen["seconds"] = round(time.monotonic() - began, 1)
        seen["ready"] = ask("/ready")
        body = {"source": "is", "target": "en", "text": "Hvar er sundlaugin?"}
        seen["without"], seen["with"] = ask("/api/v1/translate", "", body)[0], ask("/api/v1/translate", seen["key"], body)
        service.send_signal(signal.SIGTERM)
        seen["code"] = service.wait(60)
        log.seek(0)
        seen["log"] = log.read()
    return seen


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()), float(sys.argv[3]))))
