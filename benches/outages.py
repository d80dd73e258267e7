#!/usr/bin/env python3
"""Measures how long clients wait when a leader dies, and how long a node takes to start with a large log.

A cluster of three nodes is made for each, by `duramen dev`, which starts a node again that ends. Servers listen on loopback only; what is
started is ended by its process id.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = """\
examples:
  outages.py failover --rounds 30
  outages.py restart --gigabytes 10 --dir /some/disk
"""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duramen", type=Path, default=ROOT / "target/release/duramen")
    parser.add_argument("--dir", type=Path, help="where servers have their data (default: a temporary directory)")
    parser.add_argument("--port", type=int, default=8250, help="first port (default: 8250)")
    parser.add_argument("--json", action="store_true")
    what = parser.add_subparsers(dest="what", required=True)
    failover = what.add_parser("failover", help="kill -9 of a partition's leader while records are sent")
    failover.add_argument("--rounds", type=int, default=10)
    failover.add_argument("--rate", type=int, default=1000, help="records a second (default: 1000)")
    restart = what.add_parser("restart", help="start of one node with a log, after a stop and after kill -9")
    restart.add_argument("--gigabytes", type=int, default=2)
    args = parser.parse_args()
    if not args.duramen.is_file():
        sys.exit(f"{args.duramen} is not there: cargo build --release")
    run = {"failover": measure_failover, "restart": measure_restart}[args.what]
    result = run(args)
    print(json.dumps(result) if args.json else "\n".join(f"{key} {value}" for key, value in result.items()))


class Cluster:
    """`duramen dev` with so many nodes, until the end of a `with`."""

    def __init__(self, args, nodes):
        self.args = args
        self.servers = f"127.0.0.1:{args.port}"
        self.dir = tempfile.mkdtemp(prefix="outages-", dir=args.dir)
        self.process = None
        self.nodes = nodes

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def start(self):
        command = [self.args.duramen, "dev", "--nodes", str(self.nodes), "--dir", self.dir]
        command += ["--port", str(self.args.port)]
        self.process = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
            self.process = None

    def call(self, *words, check=True):
        command = [str(self.args.duramen), *words, "--servers", self.servers, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=check)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def pid(self, node):
        """Of the process of a node."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        for child in children.split():
            with contextlib.suppress(FileNotFoundError):
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                if str(node).encode() == words[words.index(b"--id") + 1]:
                    return int(child)
        return None

    def ready(self):
        for _ in until(60, "cluster"):
            if all(ready(self.args.port + 10 * node + 1) for node in range(self.nodes)):
                return

    def bench_topic(self):
        """The topic that `bench` made."""
        for _ in until(20, "topic"):
            found = re.search(r'"name": ?"(bench-[^"]+)"', json.dumps(self.call("topic", "list", check=False)))
            if found:
                return found[1]

    def leader(self, topic):
        for _ in until(20, "leader"):
            described = self.call("topic", "describe", topic, check=False)
            found = re.search(r'"leader": ?(\d+)', json.dumps(described))
            if found and self.pid(int(found[1])):
                return int(found[1])


def until(seconds, what):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.02)
    sys.exit(f"no {what} within {seconds} s")


def measure_failover(args):
    """The longest that a record waited, from when it was due to when it was consumed."""
    waits = []
    with Cluster(args, 3) as cluster:
        for turn in range(args.rounds):
            bench = [str(args.duramen), "bench", "e2e", "--rate", str(args.rate), "--seconds", "7"]
            bench += ["--servers", cluster.servers, "--json"]
            cluster.ready()
            running = subprocess.Popen(bench, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            time.sleep(3)
            leader = cluster.leader(cluster.bench_topic())
            os.kill(cluster.pid(leader), signal.SIGKILL)
            output, _ = running.communicate(timeout=60)
            result = json.loads(output)
            if result["errors"]:
                sys.exit(f"round {turn}: {result['errors']} errors")
            waits.append(result["max_us"] / 1e6)
            print(f"round {turn}: node {leader} killed, {waits[-1]:.2f} s", file=sys.stderr)
    return {"rounds": len(waits), "median_s": statistics.median(waits), "worst_s": max(waits), "waits_s": waits}


def measure_restart(args):
    """From the start of a node's process to when it leads all partitions again."""
    result = {"gigabytes": args.gigabytes}
    with Cluster(args, 1) as cluster:
        cluster.ready()
        written = 0
        while written < args.gigabytes * 1e9:
            done = cluster.call("bench", "produce", "--replicas", "1", "--keep", "--seconds", "10")
            written += done[-1]["mb_per_s"] * 10e6
            print(f"{written / 1e9:.1f} GB", file=sys.stderr)
        result["log_gb"] = round(sum(file.stat().st_size for file in Path(cluster.dir).rglob("*.log")) / 1e9, 1)
        topics = re.findall(r'"name": ?"(bench-[^"]+)"', json.dumps(cluster.call("topic", "list")))
        for name, how in (("after_stop_s", signal.SIGTERM), ("after_kill_s", signal.SIGKILL)):
            node = cluster.pid(1)
            if how == signal.SIGTERM:
                cluster.stop()
            else:
                cluster.process.send_signal(signal.SIGKILL)
                os.kill(node, signal.SIGKILL)
                cluster.process.wait(60)
            started = time.monotonic()
            cluster.start()
            cluster.ready()
            for topic in topics:
                cluster.leader(topic)
            result[name] = round(time.monotonic() - started, 2)
    return result


def ready(port):
    with contextlib.suppress(OSError):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=1) as answer:
            return answer.status == 200
    return False


if __name__ == "__main__":
    main()
