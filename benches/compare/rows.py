"""What is measured: one line of work, the same for every system."""

from dataclasses import dataclass


# Cores taken from a measurement by others, from which on it is disturbed. Less is the kernel's
# own work for the servers.
DISTURBED_CORES = 0.3


def taken(report):
    """Cores that others had while this was measured, on this machine and on its host."""
    return (report.get("other_cores") or 0) + (report.get("stolen_cores") or 0)


@dataclass(frozen=True)
class Row:
    bench: str
    title: str
    # The head of a column.
    short: str
    size: int = 1024
    nodes: int = 1
    partitions: int = 1
    preload_mb: int = 0


ROWS = {
    "produce-1k-r1": Row("produce", "Produce 1 KiB, one node", "1 KiB"),
    "produce-1k-r3": Row("produce", "Produce 1 KiB, three replicas", "1 KiB", nodes=3),
    "produce-100-r1": Row("produce", "Produce 100 B, one node", "100 B", size=100),
    "produce-100-r3": Row("produce", "Produce 100 B, three replicas", "100 B", size=100, nodes=3),
    "produce-1k-8p-r1": Row(
        "produce", "Produce 1 KiB to 8 partitions, one node", "1 KiB × 8 partitions",
        partitions=8),
    "produce-1k-8p-r3": Row(
        "produce", "Produce 1 KiB to 8 partitions, three replicas", "1 KiB × 8 partitions",
        nodes=3, partitions=8),
    "e2e-r1": Row("e2e", "End to end at 1,000 records/s, one node", "end to end at 1,000/s"),
    "e2e-r3": Row(
        "e2e", "End to end at 1,000 records/s, three replicas", "end to end at 1,000/s", nodes=3),
    "replay-1k": Row("consume", "Replay 1 KiB, one node", "replay 1 KiB", preload_mb=1000),
    "replay-100": Row(
        "consume", "Replay 100 B, one node", "replay 100 B", size=100, preload_mb=400),
}
