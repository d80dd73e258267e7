"""Fetches the peers by the ordinary means of their languages and builds the load client."""

import os
import shutil
import subprocess
from pathlib import Path

KAFKA_VERSION = "4.2.0"
LOG4J_VERSION = "2.24.3"
NATS_VERSION = "2.15.2"
PEERS = ("kafka", "nats", "redis")
REDIS_PROGRAM = "redis-server"

POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>compare</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
{dependencies}
  </dependencies>
</project>
"""


def kafka_dir(cache):
    return cache / f"kafka-{KAFKA_VERSION}"


def nats_program(cache):
    return cache / f"nats-{NATS_VERSION}" / "nats-server"


def redis_program():
    found = shutil.which(REDIS_PROGRAM)
    return Path(found) if found else None


def client_program(cache):
    return cache / "client-target" / "release" / "compare-client"


def install(cache, here, peers):
    cache.mkdir(parents=True, exist_ok=True)
    if "redis" in peers:
        find_redis()
    if "kafka" in peers:
        install_kafka(cache)
    if "nats" in peers:
        install_nats(cache)
    print("building the load client (librdkafka is compiled too)", flush=True)
    call("cargo", "build", "--release", "--locked", "--target-dir", cache / "client-target",
         "--manifest-path", here / "client" / "Cargo.toml", cwd=here / "client")


def install_kafka(cache):
    to = kafka_dir(cache)
    if to.is_dir():
        print(f"{to} is there")
        return
    print(f"fetching Kafka {KAFKA_VERSION} from Maven Central", flush=True)
    artifacts = [
        ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
        ("org.apache.kafka", "kafka-tools", KAFKA_VERSION),
        ("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION),
        ("org.apache.logging.log4j", "log4j-core", LOG4J_VERSION),
        ("org.apache.logging.log4j", "log4j-api", LOG4J_VERSION),
    ]
    lines = [
        f"    <dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{version}</version></dependency>"
        for group, artifact, version in artifacts
    ]
    pom = cache / "pom.xml"
    pom.write_text(POM.format(dependencies="\n".join(lines)))
    part = to.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    call("mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={part}")
    part.rename(to)


def install_nats(cache):
    program = nats_program(cache)
    if program.is_file():
        print(f"{program} is there")
        return
    print(f"building NATS {NATS_VERSION} from the Go module", flush=True)
    call("go", "install", f"github.com/nats-io/nats-server/v2@v{NATS_VERSION}", cwd=cache,
         env={**os.environ, "GOBIN": str(program.parent)})


def find_redis():
    """The system's own program: nothing is fetched or compiled."""
    program = redis_program()
    if program is None:
        raise RuntimeError(f"{REDIS_PROGRAM} is needed and not installed: it is in Debian's "
                           f"package redis-server (or leave it out: --peers kafka,nats)")
    print(f"{program} is there")


def call(*command, **options):
    if shutil.which(command[0]) is None:
        raise RuntimeError(f"{command[0]} is needed and not installed")
    result = subprocess.run([str(part) for part in command], check=False, **options)
    if result.returncode != 0:
        raise RuntimeError(f"{command[0]} failed with {result.returncode}")
