"""Starts a service of ours as systemd would, where systemd is not the init: its environment, its user, its limits, and a stand-in for
NOTIFY_SOCKET. Not a service manager: what it does is what `make units` looks at.

Taken over: EnvironmentFile, ExecStart, ExecReload's signal, WatchdogSec, UMask, LimitNOFILE, NoNewPrivileges, the empty set of
capabilities, MemoryDenyWriteExecute, SystemCallFilter, RestrictAddressFamilies; and where mounts may be made, ProtectSystem, InaccessiblePaths and
ProtectProc.
The rest (PrivateUsers, PrivateTmp, PrivateDevices, …) is left to `systemd-analyze security`.
"""

import ctypes
import os
import pathlib
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time

import seccomp

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS, PR_SET_MDWE = 38, 65
PR_CAPBSET_DROP, CAP_LAST = 24, 40
# What a program is told instead of the time in the unit, so that the check need not wait for it.
WATCHDOG_S = 0.9


def read_unit(folder, name):
    """The unit's [Service] lines and, after them, those of the drop-in that all units share."""
    template = name.split("@")[0] + "@.service" if "@" in name else name
    instance = name.split("@")[1].removesuffix(".service") if "@" in name else ""
    settings = {}
    for path in (folder / template, folder / "millrace-.service.d/hardening.conf"):
        section = ""
        for line in path.read_text().splitlines():
            if line.startswith("["):
                section = line
            elif section == "[Service]" and line and not line.startswith("#"):
                key, value = line.split("=", 1)
                settings.setdefault(key, []).append(value.replace("%i", instance))
    return settings


def read_env_file(path):
    if path.startswith("-"):
        path = path[1:]
        if not os.path.exists(path):
            return {}
    lines = [line.strip() for line in open(path)]
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def syscalls(names):
    """The system calls of sets such as @system-service, as this systemd has them."""
    found, todo, known = set(), list(names), set()
    while todo:
        name = todo.pop()
        if not name.startswith("@"):
            found.add(name)
        elif name not in known:
            known.add(name)
            listed = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter", name], capture_output=True, text=True, check=True)
            todo += [line.strip() for line in listed.stdout.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
    return found


class Sandbox:
    """What the process is before ExecStart, as far as it can be made here."""

    def __init__(self, settings, uid, gid):
        allowed, denied = [], []
        for value in settings["SystemCallFilter"]:
            (denied if value.startswith("~") else allowed).extend(value.removeprefix("~").split())
        families = " ".join(settings["RestrictAddressFamilies"]).split()
        self.filter = seccomp.SyscallFilter(seccomp.ERRNO(1))
        # To become the user and to start the program is systemd's part, before the filter holds; the filter must let the latter through.
        for name in sorted(syscalls(allowed) - syscalls(denied) - {"socket"}):
            try:
                self.filter.add_rule(seccomp.ALLOW, name)
            except (RuntimeError, ValueError):
                pass  # of another architecture
        for family in families:
            self.filter.add_rule(seccomp.ALLOW, "socket", seccomp.Arg(0, seccomp.EQ, getattr(socket, family)))
        self.uid, self.gid = uid, gid
        self.n_files = int(settings["LimitNOFILE"][0]) if "LimitNOFILE" in settings else None
        self.umask = int(settings["UMask"][0], 8)

    def enter(self):
        if self.n_files:
            hard = min(self.n_files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]) if os.getuid() else self.n_files
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            except (ValueError, PermissionError):
                hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.umask(self.umask)
        if os.getuid() == 0:
            for capability in range(CAP_LAST + 1):
                LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
            os.setgroups([])
            os.setgid(self.gid)
            os.setuid(self.uid)
        LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        LIBC.prctl(PR_SET_MDWE, 1, 0, 0, 0)  # Linux 6.3 and later; systemd has a filter for the others
        self.filter.load()


# Everything is read-only but the folder that the unit writes to ($1), some folders are closed ($2), and /proc shows nobody else's processes.
MOUNTS = """mount --make-rprivate / && mount --bind "$1" "$1" && mount -o remount,bind,ro / && mount -o remount,bind,rw "$1" &&
for closed in $2; do [ ! -d "$closed" ] || mount -t tmpfs -o mode=000,ro tmpfs "$closed" || exit; done &&
mount -t proc -o hidepid=invisible proc /proc && shift 2 && exec "$@" """


def can_mount(state):
    if os.getuid() != 0 or not shutil.which("unshare"):
        return False
    tried = subprocess.run(["unshare", "--mount", "sh", "-c", MOUNTS, "sh", state, "", "true"], capture_output=True)
    return tried.returncode == 0


class Service:
    """One service of `root`, a folder that holds /etc/millrace, /opt/millrace and /var/lib/millrace."""

    def __init__(self, folder, name, root, uid, gid):
        self.name, self.root = name, root
        self.settings = {key: [self._moved(value) for value in values] for key, values in read_unit(folder, name).items()}
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        for path in self.settings["EnvironmentFile"]:
            self.environment.update(read_env_file(path))
        self.sandbox = Sandbox(self.settings, uid, gid)
        # An empty value forgets those before it.
        closed = []
        for value in self.settings.get("InaccessiblePaths", []):
            closed = [*closed, *(path.removeprefix("-") for path in value.split())] if value else []
        self.closed = " ".join(closed)
        self.state = self.settings.get("ReadWritePaths", [self._moved("/var/lib/millrace")])[-1]
        self.told, self.heard, self.log_path = [], threading.Condition(), pathlib.Path(root) / f"{name}.log"

    def _moved(self, value):
        for place in ("/etc/millrace", "/opt/millrace", "/var/lib/millrace", "/var/backups/millrace"):
            value = value.replace(place, self.root + place)
        return value

    def start(self):
        path = f"{self.root}/notify-{self.name}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        os.chmod(path, 0o777)
        threading.Thread(target=self._listen, daemon=True).start()
        self.environment.update(NOTIFY_SOCKET=path, WATCHDOG_USEC=str(int(WATCHDOG_S * 1e6)))
        command = shlex.split(self.settings["ExecStart"][0])
        if can_mount(self.state):
            # The mounts are made before the sandbox, which would not let them: hence a second start of this very file.
            command = ["unshare", "--mount", "sh", "-c", MOUNTS, "sh", self.state, self.closed, "python3", __file__, self.name, self.root,
                       str(self.sandbox.uid), str(self.sandbox.gid), *command]
            before = None
        else:
            before = self.sandbox.enter
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, cwd=self.state, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=before)

    def _listen(self):
        """Takes what the process tells for as long as this program lives: one that is not listened to waits for its turn to speak."""
        while True:
            message = self.socket.recv(4096).decode().strip()
            with self.heard:
                self.told.append((time.monotonic(), message.splitlines()))
                self.heard.notify_all()

    def times_of(self, word):
        """When the process told it."""
        with self.heard:
            return [at for at, words in self.told if word in words]

    def wait_for(self, word, within=60, times=1):
        """Waits until the process has told it so often."""
        with self.heard:
            is_told = self.heard.wait_for(lambda: sum(word in words for _, words in self.told) >= times, within)
            told = sorted({word for _, words in self.told for word in words})
        assert is_told, f"{self.name} did not say {word} within {within} s; it said {told}"

    def log(self):
        return self.log_path.read_text(errors="replace")

    def last_words(self):
        return "".join(self.log().splitlines(True)[-15:])

    def reload(self):
        kill, name, _ = shlex.split(self.settings["ExecReload"][0])
        assert kill == "/bin/kill"
        self.process.send_signal(getattr(signal, "SIG" + name.removeprefix("-")))

    def stop(self):
        """As systemd stops it; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        within = int(self.settings["TimeoutStopSec"][0])
        began = time.monotonic()
        self.wait_for("STOPPING=1", within)
        code = self.process.wait(within - (time.monotonic() - began))
        return code, time.monotonic() - began


if __name__ == "__main__":
    import sys

    name, root, uid, gid, *command = sys.argv[1:]
    service = Service(pathlib.Path(__file__).parent, name, root, int(uid), int(gid))
    service.sandbox.enter()
    os.execve(command[0], command, os.environ)
