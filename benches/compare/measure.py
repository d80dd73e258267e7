"""Measures rows on systems, one after the other, and writes what was seen."""

import datetime
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import systems
from processes import Watch, wait_for_quiet
from rows import DISTURBED_CORES, ROWS, taken

# What a measurement may write before it is done, with room to spare.
FREE_GB = 14

# Beyond warm-up and window: preloading, flushing, waiting for a cluster.
PATIENCE_SECONDS = 240

NOT_ON_DISK = {"tmpfs", "ramfs"}


def run(args):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    args.cache = args.cache.resolve()
    args.duramen = args.duramen.resolve()
    data = (args.dir or args.cache / "data").resolve()
    data.mkdir(parents=True, exist_ok=True)
    kind = file_system(data)
    if kind in NOT_ON_DISK:
        raise RuntimeError(f"{data} is in memory ({kind}): choose a --dir on a disk")
    results = {"runs": []}
    if args.append and args.out.exists():
        results = json.loads(args.out.read_text())
    results["about"] = about(args, data, kind)
    todo = [(repeat, row, system) for repeat in range(1, args.repeat + 1)
            for row in args.rows for system in args.systems if applies(row, system)]
    if not todo:
        raise RuntimeError("none of these systems has any of these rows")
    failed = 0
    for number, (repeat, row, system) in enumerate(todo, 1):
        began = time.monotonic()
        result = {"row": row, "system": system, "repeat": repeat}
        try:
            result |= least_disturbed(row, system, data, args)
        except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
            result["failed"] = str(error)
            failed += 1
        results["runs"].append(result)
        args.out.write_text(json.dumps(results, indent=1) + "\n")
        took = time.monotonic() - began
        print(f"[{number}/{len(todo)}] {row} {system} {summary(row, result)} ({took:.0f} s)",
              flush=True)
    return 1 if failed else 0


def applies(row, system):
    """Not every system runs on three nodes, and reading does not depend on when records were
    synced."""
    known = systems.SYSTEMS[system]
    if not known.durability(ROWS[row].nodes):
        return False
    return ROWS[row].bench != "consume" or system == known.kind


def least_disturbed(row, system, data, args):
    """Measures, and again if others took part; answers the measurement with least of them."""
    best = None
    for _ in range(1 + args.again):
        wait_for_quiet(args.wait_quiet)
        report = measure(row, system, data, args)
        if best is None or taken(report) < taken(best):
            best = report
        if taken(best) <= DISTURBED_CORES:
            break
    return best


def measure(name, system, data, args):
    row = ROWS[name]
    free = shutil.disk_usage(data).free / 1e9
    if free < FREE_GB:
        raise RuntimeError(f"{free:.0f} GB are free in {data}, {FREE_GB} GB are needed")
    with tempfile.TemporaryDirectory(dir=data, prefix="run-") as directory:
        with systems.cluster(system, row.nodes, Path(directory), args) as cluster:
            command = cluster.client(row, args)
            watch = Watch(cluster.pids)
            timeout = args.seconds + cluster.warmup(args) + PATIENCE_SECONDS
            code, output, errors = watch.run(command, timeout)
            report = last_json(output)
            if report is None:
                logs = "; ".join(server.tail()[-300:] for server in cluster.servers)
                raise RuntimeError(f"the client ended with {code}: {errors[-500:]} {logs}")
            cluster.check()
            if not report.get("records"):
                raise RuntimeError(f"no record within the window: {report.get('error')}")
    # What was not written back belongs to nobody's next measurement.
    os.sync()
    report["server_rss_anon_mb"] = round(watch.rss_anon_mb, 1)
    report["other_cores"] = watch.other_cores
    report["stolen_cores"] = watch.stolen_cores
    report["exit_code"] = code
    return report


def last_json(output):
    for line in reversed(output.splitlines()):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    try:
        value = json.loads(output)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def summary(row, result):
    if "failed" in result:
        return "FAILED: " + result["failed"]
    text = f"{result.get('mb_per_s', 0):.1f} MB/s"
    if ROWS[row].bench == "e2e":
        text = "p50 {p50_us} p99 {p99_us} p99.9 {p999_us} max {max_us} us".format(**result)
    if result.get("server_cpu_s_per_gb") is not None:
        text += f", server {result['server_cpu_s_per_gb']:.2f} s/GB"
    if result.get("client_cpu_s_per_gb") is not None:
        text += f", client {result['client_cpu_s_per_gb']:.2f} s/GB"
    text += (f", {result['server_rss_anon_mb']:.0f} MB, others {result['other_cores']} and host "
             f"{result['stolen_cores']} cores")
    if result.get("errors") or result.get("exit_code"):
        text += f", {result.get('errors')} errors: {result.get('error')}"
    return text


def about(args, data, kind):
    """The machine and what runs on it, without its name."""
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) * 1024 / 1e9
    model = "unknown"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": model,
        "cpus": os.cpu_count(),
        "memory_gb": round(memory),
        "kernel": platform.release(),
        "file_system": kind,
        "fdatasync_4k_p50_us": fdatasync_us(data),
        "versions": systems.versions(args.systems, args),
        "seconds": args.seconds,
        "warmup": args.warmup,
        "warmup_kafka": args.warmup_kafka,
        "repeat": args.repeat,
    }


def file_system(path):
    """The kind of the file system that a directory is on."""
    best, kind = "", "unknown"
    with open("/proc/mounts") as file:
        for line in file:
            _, mount, found = line.split()[:3]
            below = str(path) == mount or str(path).startswith(mount.rstrip("/") + "/")
            if below and len(mount) >= len(best):
                best, kind = mount, found
    return kind


def fdatasync_us(directory, count=200):
    """How long a small durable write takes here: less than some 20 is no disk at all."""
    took = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(count):
            began = time.perf_counter()
            os.write(file.fileno(), os.urandom(4096))
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return round(sorted(took)[count // 2] * 1e6)
