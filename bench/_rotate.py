# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What clients notice of rotations of the database's password. Started by bench/run, which prepares the environment."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time

from _cloud import ROOT, write

# The load and the deployment are those of the tests.
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def table(rows: list[dict]) -> str:
    columns = ["seconds", "requests", "failed", "per_second", "median_ms", "p99_ms", "max_ms"]
    lines = [f"{'':<14}" + "".join(f"{name:>12}" for name in columns)]
    lines += [f"{row['name']:<14}" + "".join(f"{row[name]:>12}" for name in columns) for row in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rotations", type=int, default=10)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--servers", type=int, default=2)
    parser.add_argument("--margin", type=int, default=30, help="seconds of load before the first and after the last")
    parser.add_argument("--pause", type=float, default=0.4, help="seconds between two requests of a client")
    parser.add_argument("--recycle", type=int, default=60, help="mlflow_server_pool_recycle")
    arguments = parser.parse_args()
    os.environ.setdefault("LOCALCLOUD_NAME", "bench-rotate")

    from deployment import Deployment
    from load import Load, figures

    with tempfile.TemporaryDirectory() as folder:
        deployment = Deployment(folder, servers=arguments.servers, recycle=arguments.recycle, grace=10, lease=60)
        try:
            print("local cloud and site.yml …", flush=True)
            deployment.up()
            pids = deployment.main_pids()
            marks = []
            user = deployment.user
            load = Load(deployment.addresses, user["username"], user["password"], arguments.clients, arguments.pause)
            # In life the controller and AWS are other machines.
            with deployment.elsewhere(), load:
                # The first requests make the pools' connections.
                time.sleep(2)
                start = time.time()
                time.sleep(arguments.margin)
                for number in range(1, arguments.rotations + 1):
                    print(f"rotation {number} …", flush=True)
                    begin = time.time()
                    deployment.must_rotate()
                    marks.append((f"rotation {number}", begin, time.time()))
                time.sleep(arguments.margin)
                end = time.time()
            restarted = deployment.main_pids() != pids
            deployment.check_finished()
        finally:
            deployment.down()

    stretches = [("before", start, marks[0][1]), *marks, ("after", marks[-1][2], end)]
    rows = [
        {"name": name, "seconds": round(until - since, 1), **figures(load.between(since, until), until - since)}
        for name, since, until in stretches
    ]
    during = {"name": "all rotations", "seconds": round(marks[-1][2] - marks[0][1], 1)}
    during |= figures(load.between(marks[0][1], marks[-1][2]), marks[-1][2] - marks[0][1])
    rows.append(during)
    print(f"\n{table(rows)}\n")
    ratio = round(during["p99_ms"] / rows[0]["p99_ms"], 2) if rows[0]["p99_ms"] else None
    print(f"p99 during the rotations is {ratio} times that before; failed requests: {len(load.failed)}; "
          f"the service was {'' if restarted else 'not '}restarted")  # fmt: skip
    for answer in load.failed[:10]:
        print(f"  {answer.what}: {answer.problem}")
    write("rotate", {
        **vars(arguments),
        "p99_ratio": ratio,
        "failed": len(load.failed),
        "restarted": restarted,
        "rows": rows,
    })  # fmt: skip
    sys.exit(1 if load.failed or restarted else 0)


if __name__ == "__main__":
    main()
