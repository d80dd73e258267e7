"""Processes that this program starts: nothing else is ever ended, and none outlives it."""

import ctypes
import os
import signal
import socket
import subprocess
import threading
import time

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_ports(count):
    """Ports of loopback that nobody listens on now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Server:
    """A server, with its output in a file."""

    def __init__(self, command, log, env=None):
        self.log = log
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.PIPE, stdout=output,
                stderr=output, env=env, start_new_session=True, preexec_fn=die_with_parent)
        self.pid = self.process.pid

    def check(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"a server ended with {self.process.returncode}: {self.tail()}")

    def tail(self):
        return self.log.read_text(errors="replace")[-1000:].strip()

    def stop(self):
        """At once: its data is thrown away."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def cpu_seconds_of_machine():
    """CPU time since the start: all that was used here, and what the host gave to others."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal = \
            [int(field) for field in file.readline().split()[1:9]]
    return (user + nice + system + irq + softirq) / TICKS_PER_SECOND, steal / TICKS_PER_SECOND


def wait_for_quiet(seconds, cores=0.15):
    """Waits, so long at most, until the machine has been nearly idle for two seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        before = sum(cpu_seconds_of_machine())
        time.sleep(2)
        if sum(cpu_seconds_of_machine()) - before < 2 * cores:
            return


def rss_anon_mb(pid):
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


class Watch:
    """Looks at servers while a client runs: memory, and what the rest of the machine does."""

    def __init__(self, pids):
        self.pids = pids
        self.rss_anon_mb = 0.0
        self.other_cores = None
        self.stolen_cores = None

    def run(self, command, timeout):
        """Runs the client to its end; answers its exit code, stdout and stderr."""
        over = threading.Event()
        watching = threading.Thread(target=self._sample, args=(over,), daemon=True)
        (used, stolen), servers, began = cpu_seconds_of_machine(), self._cpu(), time.monotonic()
        client_before = os.times()
        process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
            preexec_fn=die_with_parent)
        try:
            watching.start()
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the client did not end within {timeout:.0f} s") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            over.set()
        watching.join()
        client_after = os.times()
        client = (client_after.children_user - client_before.children_user
                  + client_after.children_system - client_before.children_system)
        used_after, stolen_after = cpu_seconds_of_machine()
        other = used_after - used - (self._cpu() - servers) - client
        took = time.monotonic() - began
        self.other_cores = round(max(0.0, other) / took, 2)
        self.stolen_cores = round((stolen_after - stolen) / took, 2)
        return process.returncode, output, errors

    def _cpu(self):
        try:
            return sum(cpu_seconds(pid) for pid in self.pids)
        except OSError:
            return 0.0

    def _sample(self, over):
        while not over.wait(0.25):
            try:
                now = sum(rss_anon_mb(pid) for pid in self.pids)
            except OSError:
                continue
            self.rss_anon_mb = max(self.rss_anon_mb, now)
