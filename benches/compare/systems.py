"""How each system is started, and how much it promises with an acknowledgement."""

import base64
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

import install
from processes import Server, free_ports

HOST = "127.0.0.1"
READY_SECONDS = 120

# What Redis may hold.
REDIS_MEMORY = "6gb"

JAVA = ["java", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
        "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent",
        "-Djava.awt.headless=true"]


@dataclass(frozen=True)
class System:
    name: str
    kind: str
    # Whether an acknowledged record is on disk.
    is_durable: bool
    # When a record is acknowledged, on one node and on three; empty if it does not run on three.
    one: str
    three: str = ""

    def durability(self, nodes):
        return self.one if nodes == 1 else self.three


SYSTEMS = {
    "duramen": System("Duramen", "duramen", True, "fsync", "fsync on a majority"),
    "kafka": System("Kafka", "kafka", False, "page cache", "page cache of all in sync"),
    "kafka-fsync": System("Kafka, flush.messages=1", "kafka", True,
                          "fsync", "fsync on all in sync"),
    "nats": System("NATS JetStream", "nats", False,
                   "page cache, fsync every 2 min", "page cache of a majority"),
    "nats-fsync": System("NATS JetStream, sync always", "nats", True,
                         "fsync", "fsync on a majority"),
    "redis": System("Redis Streams", "redis", False, "page cache, fsync every second"),
    "redis-fsync": System("Redis Streams, fsync always", "redis", True, "fsync"),
}


class Cluster:
    """Nodes on loopback with their data in one directory, and the client that goes with them."""

    def __init__(self, system, nodes, data, args):
        self.system, self.nodes, self.data, self.args = system, nodes, data, args
        self.servers, self.addresses = [], []

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def pids(self):
        return [server.pid for server in self.servers]

    def stop(self):
        for server in self.servers:
            server.stop()

    def check(self):
        for server in self.servers:
            server.check()

    def spawn(self, node, command, env=None):
        self.servers.append(Server(command, self.data / f"log-{node}", env))

    def ids(self):
        return range(1, self.nodes + 1)

    def start(self):
        raise NotImplementedError

    def command(self, row, args):
        """The client's command line, but for the flags that all clients share."""
        raise NotImplementedError

    def client(self, row, args):
        command = self.command(row, args) + [
            "--servers", ",".join(self.addresses), "--pids", ",".join(map(str, self.pids)),
            "--size", row.size, "--partitions", row.partitions, "--replicas", self.nodes,
            "--seconds", args.seconds, "--warmup", self.warmup(args)]
        if row.bench == "consume":
            command += ["--preload-mb", row.preload_mb]
        else:
            command += ["--linger-ms", 0 if row.bench == "e2e" else 5] if self.lingers else []
        if row.bench == "e2e":
            command += ["--rate", 1000]
        return command

    lingers = True

    def warmup(self, args):
        return args.warmup


class Duramen(Cluster):
    def start(self):
        ports = free_ports(3 * self.nodes)
        addresses = [f"{HOST}:{port}" for port in ports]
        self.addresses = addresses[:self.nodes]
        https = addresses[self.nodes:2 * self.nodes]
        env = {k: v for k, v in os.environ.items() if not k.startswith("DURAMEN_")}
        for node in self.ids():
            self.spawn(node, [
                self.args.duramen, "server", "--id", node, "--dir", self.data / str(node),
                "--listen", self.addresses[node - 1], "--http-listen", https[node - 1],
                "--peer-listen", addresses[2 * self.nodes + node - 1],
                "--seed", ",".join(self.addresses), "--exit-with-stdin"], env)
        deadline = time.monotonic() + READY_SECONDS
        while not all(is_ready(f"http://{http}/health/ready") for http in https):
            self.check()
            if time.monotonic() > deadline:
                raise RuntimeError("Duramen did not get ready")
            time.sleep(0.1)

    def command(self, row, args):
        return [args.duramen, "bench", row.bench, "--json"]


def is_ready(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


class Kafka(Cluster):
    def start(self):
        ports = free_ports(2 * self.nodes)
        self.addresses = [f"{HOST}:{port}" for port in ports[:self.nodes]]
        controllers = [f"{HOST}:{port}" for port in ports[self.nodes:]]
        voters = ",".join(f"{node}@{controllers[node - 1]}" for node in self.ids())
        classpath = ["-cp", f"{install.kafka_dir(self.args.cache)}/*"]
        cluster = base64.b64encode(b"duramen compares").decode().rstrip("=")
        formatting = []
        for node in self.ids():
            file = self.data / f"{node}.properties"
            file.write_text("\n".join([
                "process.roles=broker,controller",
                f"node.id={node}",
                f"controller.quorum.voters={voters}",
                f"listeners=PLAINTEXT://{self.addresses[node - 1]},"
                f"CONTROLLER://{controllers[node - 1]}",
                f"advertised.listeners=PLAINTEXT://{self.addresses[node - 1]}",
                "controller.listener.names=CONTROLLER",
                "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
                f"log.dirs={self.data / str(node)}",
                f"min.insync.replicas={min(2, self.nodes)}",
                "num.network.threads=2",
                "num.io.threads=2",
                "log.retention.ms=-1",
                "auto.create.topics.enable=false",
                # The topic of the groups, which are not used here, without its 50 partitions.
                "offsets.topic.num.partitions=1",
                "offsets.topic.replication.factor=1",
                ""]))
            with open(self.data / f"format-{node}", "wb") as output:
                formatting.append(subprocess.Popen(
                    [*JAVA, "-Xmx256m", *classpath, "kafka.tools.StorageTool", "format",
                     "-t", cluster, "-c", file],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT))
        for node, process in zip(self.ids(), formatting):
            try:
                code = process.wait(READY_SECONDS)
            finally:
                process.kill()
            if code != 0:
                output = (self.data / f"format-{node}").read_text(errors="replace")
                raise RuntimeError(f"could not format Kafka's storage: {output[-500:]}")
        heap = "1g" if self.nodes == 1 else "512m"
        for node in self.ids():
            self.spawn(node, [*JAVA, f"-Xms{heap}", f"-Xmx{heap}", *classpath,
                              "kafka.Kafka", self.data / f"{node}.properties"])

    def command(self, row, args):
        options = ["--topic-option", "flush.messages=1"] if self.system.is_durable else []
        return [install.client_program(args.cache), row.bench, "--peer", "kafka", *options]

    def warmup(self, args):
        return args.warmup_kafka


class Nats(Cluster):
    def start(self):
        ports = free_ports(2 * self.nodes)
        self.addresses = [f"{HOST}:{port}" for port in ports[:self.nodes]]
        routes = [f"nats://{HOST}:{port}" for port in ports[self.nodes:]]
        for node in self.ids():
            lines = [
                f"server_name: n{node}",
                f"listen: {json.dumps(self.addresses[node - 1])}",
                "jetstream {",
                f"  store_dir: {json.dumps(str(self.data / str(node)))}",
                "  max_file: 64GB",
                "  sync_interval: always" if self.system.is_durable else "",
                "}",
            ]
            if self.nodes > 1:
                lines += [
                    "cluster {",
                    "  name: compare",
                    f"  listen: {json.dumps(routes[node - 1].removeprefix('nats://'))}",
                    f"  routes: {json.dumps(routes)}",
                    "}",
                ]
            file = self.data / f"{node}.conf"
            file.write_text("\n".join(lines) + "\n")
            self.spawn(node, [install.nats_program(self.args.cache), "-c", file])

    def command(self, row, args):
        command = [install.client_program(args.cache), row.bench, "--peer", "nats"]
        if self.system.is_durable and self.nodes == 1:
            # One node syncs every record by itself and answers in bursts: with thousands in
            # flight, less than one burst a window. Fewer are not slower.
            command += ["--in-flight", 500]
        return command


class Redis(Cluster):
    """One node: Redis acknowledges before its replicas have a record."""

    def start(self):
        [port] = free_ports(self.nodes)
        self.addresses = [f"{HOST}:{port}"]
        data = self.data / "1"
        data.mkdir()
        file = self.data / "1.conf"
        file.write_text("\n".join([
            f"bind {HOST}",
            f"port {port}",
            f"dir {json.dumps(str(data))}",
            "daemonize no",
            "appendonly yes",
            f"appendfsync {'always' if self.system.is_durable else 'everysec'}",
            "no-appendfsync-on-rewrite no",
            # Nothing but the log of commands is written: no snapshot, no smaller log.
            "auto-aof-rewrite-percentage 0",
            'save ""',
            # It holds all records in memory: it refuses them before the machine has none left.
            f"maxmemory {REDIS_MEMORY}",
            "maxmemory-policy noeviction",
            ""]))
        self.spawn(1, [install.redis_program(), file])

    def command(self, row, args):
        # Redis syncs after it has read some 20 KB of a connection, a few records, unless they are
        # in one transaction.
        options = ["--transactions"] if self.system.is_durable else []
        return [install.client_program(args.cache), row.bench, "--peer", "redis", *options]


KINDS = {"duramen": Duramen, "kafka": Kafka, "nats": Nats, "redis": Redis}


def cluster(name, nodes, data, args):
    system = SYSTEMS[name]
    return KINDS[system.kind](system, nodes, data, args)


def versions(chosen, args):
    """What is compared, as it names itself."""
    found = {}
    for kind in {SYSTEMS[name].kind for name in chosen}:
        if kind == "duramen":
            if not args.duramen.is_file():
                raise RuntimeError(f"{args.duramen} is not there: cargo build --release")
            found[kind] = output_of(args.duramen, "--version")
            continue
        peer = {"kafka": install.kafka_dir(args.cache), "nats": install.nats_program(args.cache),
                "redis": install.redis_program()}[kind]
        for path in (install.client_program(args.cache), peer):
            if path is None or not path.exists():
                raise RuntimeError(f"{path or kind} is not there: compare.py install")
        found[kind] = (f"kafka {install.KAFKA_VERSION}" if kind == "kafka"
                       else output_of(peer, "--version"))
        if kind == "redis":
            # Version, checksum, allocator and more: "Redis server v=7.0.15 sha=...".
            found[kind] = found[kind].split(" sha=")[0].replace("Redis server v=", "redis-server ")
    return found


def output_of(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True,
                          timeout=30).stdout.strip()
