"""Results as Markdown tables and as SVG charts."""

import math
from html import escape
from statistics import median

from rows import DISTURBED_CORES, ROWS, taken
from systems import SYSTEMS

# A machine of the size that the targets are meant for does this on NATS, one node, 1 KiB.
REFERENCE_MB_PER_S, REFERENCE_CPU = 186, 6.0

FIELDS = ("mb_per_s", "records_per_s", "server_cpu_s_per_gb", "client_cpu_s_per_gb", "p50_us",
          "p99_us", "p999_us", "max_us", "server_rss_anon_mb", "other_cores", "stolen_cores")


def medians(results):
    """{(row, system): medians of its runs}, rows and systems in their own order."""
    found = {}
    for row in ROWS:
        for system in SYSTEMS:
            runs = [run for run in results["runs"]
                    if run["row"] == row and run["system"] == system]
            done = [run for run in runs if "failed" not in run]
            if not runs:
                continue
            cell = {"runs": len(done), "failed": len(runs) - len(done),
                    "errors": sum(run.get("errors") or 0 for run in done)}
            for field in FIELDS:
                values = [run[field] for run in done if run.get(field) is not None]
                cell[field] = median(values) if values else None
            speeds = [run["mb_per_s"] for run in done if run.get("mb_per_s") is not None]
            cell["least"], cell["most"] = min(speeds, default=None), max(speeds, default=None)
            found[row, system] = cell
    return found


def number(value, digits=None):
    if value is None:
        return "–"
    if digits is None:
        digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def records(value):
    if value is None:
        return "–"
    return f"{value / 1e6:.2f} M/s" if value >= 1e6 else f"{value / 1e3:.0f} k/s"


def throughput(cell):
    text = (f"{number(cell['mb_per_s'], 0)} MB/s ({records(cell['records_per_s'])}), "
            f"{number(cell['server_cpu_s_per_gb'])}")
    return text + mark(cell)


def latency(cell):
    values = [number(cell[field], 0) for field in ("p50_us", "p99_us", "p999_us")]
    return " / ".join(values) + mark(cell)


def mark(cell):
    """A run that failed or had errors is not hidden."""
    notes = []
    if cell["failed"]:
        notes.append(f"{cell['failed']} of {cell['runs'] + cell['failed']} runs failed")
    if cell["errors"]:
        notes.append(f"{cell['errors']:,} errors")
    return f" ({'; '.join(notes)})" if notes else ""


def table(results):
    """For a README: one table for one node, one for three."""
    cells = medians(results)
    text = [
        f"Medians of {results['about']['repeat']}. MB = 10^6 bytes of payload; after it, server "
        "CPU seconds per GB, all nodes added. End to end: p50 / p99 / p99.9 in µs. Memory: "
        "anonymous, all nodes added, the most of any row.",
        "",
    ]
    for nodes, title in ((3, "Three nodes, replication 3"), (1, "One node")):
        rows = [row for row in ROWS if ROWS[row].nodes == nodes
                and any((row, system) in cells for system in SYSTEMS)]
        if not rows:
            continue
        heads = [ROWS[row].short for row in rows]
        text.append(f"| {title} | acknowledged after | {' | '.join(heads)} | memory |")
        text.append("|---" * (len(rows) + 3) + "|")
        for name, system in SYSTEMS.items():
            mine = [cells.get((row, name)) for row in rows]
            if not any(mine):
                continue
            values = [
                "–" if cell is None
                else mark(cell).strip(" ()") if not cell["runs"]
                else latency(cell) if ROWS[row].bench == "e2e" else throughput(cell)
                for row, cell in zip(rows, mine)
            ]
            memory = max((cell["server_rss_anon_mb"] or 0 for cell in mine if cell), default=0)
            text.append(f"| {system.name} | {system.durability(nodes)} | {' | '.join(values)} "
                        f"| {number(memory, 0)} MB |")
        text.append("")
    text += [machine(results), calibration(cells), disturbance(cells)]
    return "\n".join(line for line in text if line is not None)


def full_table(results):
    """Every figure, a line for each row and system."""
    text = ["| row | system | acknowledged after | MB/s | least–most | records/s "
            "| server CPU s/GB | client CPU s/GB | p50 / p99 / p99.9 / max µs | memory MB | errors "
            "| runs | cores used by others and by the host |", "|---" * 13 + "|"]
    for (row, name), cell in medians(results).items():
        system, work = SYSTEMS[name], ROWS[row]
        shown = [number(cell[field], 0) for field in ("p50_us", "p99_us", "p999_us", "max_us")]
        text.append(" ".join([
            f"| {row} | {system.name} | {system.durability(work.nodes)} "
            f"| {number(cell['mb_per_s'], 1)} | {number(cell['least'], 0)}–"
            f"{number(cell['most'], 0)} | {number(cell['records_per_s'], 0)} "
            f"| {number(cell['server_cpu_s_per_gb'])} | {number(cell['client_cpu_s_per_gb'])} "
            f"| {'–' if work.bench == 'consume' else ' / '.join(shown)} "
            f"| {number(cell['server_rss_anon_mb'], 0)} | {cell['errors']:,} "
            f"| {cell['runs']}{mark(cell) if cell['failed'] else ''} "
            f"| {number(cell['other_cores'])}, {number(cell['stolen_cores'])} |"]))
    return "\n".join([*text, "", machine(results)])


def machine(results):
    about = results["about"]
    versions = ", ".join(text for _, text in sorted(about["versions"].items()))
    return (f"{about['date']}, {about['cpus']} cores of {about['cpu']}, {about['memory_gb']} GB, "
            f"Linux {about['kernel']}, {about['file_system']}, 4 KiB write and fdatasync in "
            f"{about['fdatasync_4k_p50_us']} µs; servers and client on the same machine; "
            f"{about['seconds']:g} s after {about['warmup']:g} s of warm-up "
            f"({about['warmup_kafka']:g} s for Kafka). {versions}.")


def calibration(cells):
    cell = cells.get(("produce-1k-r1", "nats"))
    if not cell or not cell["mb_per_s"] or not cell["server_cpu_s_per_gb"]:
        return None
    return (f"Calibration: NATS, one node, 1 KiB: {number(cell['mb_per_s'], 0)} MB/s at "
            f"{number(cell['server_cpu_s_per_gb'])} s/GB, the reference machine "
            f"{REFERENCE_MB_PER_S} at {REFERENCE_CPU}: this machine is "
            f"{number(cell['mb_per_s'] / REFERENCE_MB_PER_S, 2)} times as fast.")


def disturbance(cells):
    disturbed = sum(taken(cell) > DISTURBED_CORES for cell in cells.values())
    if not disturbed:
        return None
    most = max(taken(cell) for cell in cells.values())
    return (f"Disturbed: in {disturbed} of {len(cells)} medians others took more than "
            f"{DISTURBED_CORES} cores, {number(most)} at most (`table --full` says which).")


# Charts.

WIDTH, LABELS, LINE, TOP = 860, 230, 44, 78
INK, FAINT, GRID = "#1f2328", "#59636e", "#d8dee4"
OURS, THEIRS = "#b3541e", "#4a6785"
OURS_LIGHT, THEIRS_LIGHT = "#e5bfa8", "#b9c8d6"


def charts(results, directory):
    """Writes a file for each row; answers their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    cells = medians(results)
    for row in ROWS:
        mine = {name: cells[row, name] for name in SYSTEMS
                if (row, name) in cells and cells[row, name]["runs"]}
        if not mine:
            continue
        draw = latency_chart if ROWS[row].bench == "e2e" else bar_chart
        path = directory / f"{row}.svg"
        path.write_text(draw(row, mine, results["about"]))
        yield path


def color(name):
    """Ours or theirs, full if an acknowledged record is on disk."""
    system = SYSTEMS[name]
    if system.kind == "duramen":
        return OURS if system.is_durable else OURS_LIGHT
    return THEIRS if system.is_durable else THEIRS_LIGHT


def text(x, y, content, size=13, fill=INK, anchor="start", weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" '
            f'text-anchor="{anchor}" font-weight="{weight}">{escape(content)}</text>')


def line(x1, y1, x2, y2, stroke=GRID, width=1.0):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}" '
            f'stroke-width="{width}"/>')


def frame(row, cells, about, parts, legend):
    """A chart with its title, the systems' names at the left and the machine at the bottom."""
    nodes, names = ROWS[row].nodes, list(cells)
    disturbed = any(taken(cell) > DISTURBED_CORES for cell in cells.values())
    bottom = TOP + LINE * len(names)
    height = bottom + 62
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" role="img">',
        f"<title>{escape(ROWS[row].title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(16, 28, ROWS[row].title, 17, weight="bold"),
        *parts,
    ]
    for place, name in enumerate(names):
        system, y = SYSTEMS[name], TOP + LINE * place
        weight = "bold" if system.kind == "duramen" else "normal"
        parts.append(text(16, y + 17, system.name, 13, weight=weight))
        parts.append(text(16, y + 32, system.durability(nodes), 11, FAINT))
    if disturbed:
        legend += " Measured beside other work on this machine."
    parts.append(text(16, bottom + 22, legend, 11, FAINT))
    parts.append(text(
        16, bottom + 40, f"{about['cpus']} cores of {about['cpu']}, servers and client together; "
        f"medians of {about['repeat']}; {about['date']}", 11, FAINT))
    return "\n".join([*parts, "</svg>", ""])


FULL = "Full color: on disk before the acknowledgement. Light: acknowledged from memory."


def bar_chart(row, cells, about):
    width = (WIDTH - LABELS - 40) / 2
    parts = []
    panels = (("mb_per_s", "MB/s (more is better)"),
              ("server_cpu_s_per_gb", "server CPU seconds per GB (less is better)"))
    for place, (field, title) in enumerate(panels):
        left = LABELS + place * (width + 24)
        room = width - 56
        most = max((cell[field] or 0 for cell in cells.values()), default=0) or 1
        parts.append(text(left, 58, title, 12, FAINT))
        parts.append(line(left, TOP - 8, left, TOP + LINE * len(cells) - 4, FAINT))
        for index, (name, cell) in enumerate(cells.items()):
            y, value = TOP + LINE * index + 4, cell[field]
            if value is None:
                parts.append(text(left + 6, y + 19, "not known", 12, FAINT))
                continue
            length = max(1.0, room * value / most)
            parts.append(f'<rect x="{left:.1f}" y="{y}" width="{length:.1f}" height="26" '
                         f'fill="{color(name)}"/>')
            errors = f" ({cell['errors']:,} errors)" if cell["errors"] else ""
            parts.append(text(left + length + 6, y + 18, number(value) + (
                errors if place == 0 else ""), 12))
    legend = FULL if ROWS[row].bench == "produce" else "Everything read is in memory."
    return frame(row, cells, about, parts, legend)


def latency_chart(row, cells, about):
    """p50, p99 and p99.9 on a logarithmic scale: they differ by powers of ten."""
    fields = ("p50_us", "p99_us", "p999_us")
    values = [cell[field] for cell in cells.values() for field in fields if cell[field]]
    if not values:
        return frame(row, cells, about, [], "Nothing was received.")
    low = 10 ** math.floor(math.log10(min(values)))
    high = 10 ** math.ceil(math.log10(max(values) * 1.05))
    left, right = LABELS + 10, WIDTH - 40

    def at(value):
        share = (math.log10(max(value, low)) - math.log10(low)) / math.log10(high / low)
        return left + (right - left) * share

    bottom = TOP + LINE * len(cells) - 4
    parts = [text(left, 52, "latency, logarithmic (less is better)", 12, FAINT)]
    power = low
    while power <= high:
        label = f"{power / 1e6:g} s" if power >= 1e6 else (
            f"{power / 1e3:g} ms" if power >= 1e3 else f"{power:g} µs")
        parts.append(line(at(power), TOP - 4, at(power), bottom))
        parts.append(text(at(power), TOP - 9, label, 11, FAINT, "middle"))
        power *= 10
    for index, (name, cell) in enumerate(cells.items()):
        y = TOP + LINE * index + 16
        known = [cell[field] for field in fields if cell[field]]
        if not known:
            continue
        parts.append(line(at(min(known)), y, at(max(known)), y, color(name), 5))
        for value, radius in zip(known, (7, 5.5, 4)):
            parts.append(f'<circle cx="{at(value):.1f}" cy="{y}" r="{radius}" '
                         f'fill="{color(name)}" stroke="#ffffff"/>')
        errors = f", {cell['errors']:,} errors" if cell["errors"] else ""
        label = " / ".join(number(value / 1e3, 2 if value < 1e5 else 0) for value in known)
        parts.append(text(min(at(known[0]), right - 190), y + 21, f"{label} ms{errors}", 11))
    return frame(row, cells, about, parts,
                 "p50 / p99 / p99.9 from the largest dot to the smallest. " + FULL)
