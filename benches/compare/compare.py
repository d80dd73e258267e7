#!/usr/bin/env python3
"""Runs the same work on Duramen and on its peers, side by side on this machine."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import install
import measure
import present
import systems
from rows import ROWS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = Path.home() / ".cache" / "duramen-compare"

EXAMPLES = """\
examples:
  compare.py install
  compare.py run --out results.json
  compare.py run --rows produce-1k-r3,e2e-r3 --systems duramen,kafka,nats --out results.json
  compare.py run --wait-quiet 60 --again 2 --out results.json
  compare.py run --rows produce-1k-r1 --systems nats --seconds 2 --repeat 1 --out calibrate.json
  compare.py table results.json
  compare.py chart results.json --out charts
"""


def names(known):
    """An argument that is a list of known names."""
    def parse(text):
        chosen = [name.strip() for name in text.split(",") if name.strip()]
        unknown = [name for name in chosen if name not in known]
        if unknown or not chosen:
            raise argparse.ArgumentTypeError(
                f"{', '.join(unknown) or 'nothing'} is not among {', '.join(known)}")
        return chosen
    return parse


def seconds(text):
    value = float(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError("give 0 to 3600 seconds")
    return value


def count(text):
    value = int(text)
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError("give 1 to 100")
    return value


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name, text):
        sub = commands.add_parser(
            name, help=text, description=text, epilog=EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter)
        sub.add_argument("--cache", type=Path, default=CACHE, metavar="DIR",
                         help="where peers and the client are installed (default: %(default)s)")
        return sub

    sub = command("install", "Fetch the peers and build the load client (needs mvn, go, cargo)")
    sub.add_argument("--peers", type=names(install.PEERS), default=list(install.PEERS),
                     help="of: %s (default: all)" % ", ".join(install.PEERS))

    sub = command("run", "Measure; every measurement has a cluster of its own")
    sub.add_argument("--rows", type=names(ROWS), default=list(ROWS),
                     help="what to measure, of: %s (default: all)" % ", ".join(ROWS))
    sub.add_argument("--systems", type=names(systems.SYSTEMS), default=list(systems.SYSTEMS),
                     help="of: %s (default: all)" % ", ".join(systems.SYSTEMS))
    sub.add_argument("--repeat", type=count, default=3, metavar="N",
                     help="how often; tables show medians (default: %(default)s)")
    sub.add_argument("--seconds", type=seconds, default=6, help="measured (default: %(default)s)")
    sub.add_argument("--warmup", type=seconds, default=2,
                     help="before that (default: %(default)s)")
    sub.add_argument("--warmup-kafka", type=seconds, default=10, metavar="SECONDS",
                     help="the same for Kafka, whose code is compiled as it runs "
                          "(default: %(default)s)")
    sub.add_argument("--wait-quiet", type=seconds, default=0, metavar="SECONDS",
                     help="before each measurement wait so long at most until the machine is idle")
    sub.add_argument("--again", type=int, choices=range(0, 11), default=0, metavar="N",
                     help="measure so often again at most while others disturb it, "
                          "and take the least disturbed (default: %(default)s)")
    sub.add_argument("--duramen", type=Path, default=ROOT / "target" / "release" / "duramen",
                     metavar="PATH", help="the program (default: %(default)s)")
    sub.add_argument("--dir", type=Path, metavar="DIR",
                     help="where servers have their data, on a disk (default: data in --cache)")
    sub.add_argument("--out", type=Path, default=Path("results.json"), metavar="FILE",
                     help="written after every measurement (default: %(default)s)")
    sub.add_argument("--append", action="store_true", help="keep what FILE has already")

    sub = command("table", "Print results as Markdown")
    sub.add_argument("results", type=Path)
    sub.add_argument("--full", action="store_true", help="every figure, a line each")

    sub = command("chart", "Draw results as SVG, a file for each row")
    sub.add_argument("results", type=Path)
    sub.add_argument("--out", type=Path, default=Path("charts"), metavar="DIR")
    return parser.parse_args()


def main():
    args = arguments()
    if args.command == "install":
        install.install(args.cache, HERE, args.peers)
    elif args.command == "run":
        return measure.run(args)
    elif args.command == "table":
        results = json.loads(args.results.read_text())
        print(present.full_table(results) if args.full else present.table(results))
    else:
        results = json.loads(args.results.read_text())
        for path in present.charts(results, args.out):
            print(path)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted")
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
        sys.exit(f"error: {error}")
