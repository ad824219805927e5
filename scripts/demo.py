"""Starts three nodes, lets them compute the tutorial's sum, and keeps them running.

DEMO_ONCE=1 ends them after that, with status 0 if the sum is right. FDRTD_DEMO_PORT chooses another port.
Arguments are those of `fdrtd demo`, such as --tls.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import fdrtd

ROOT = Path(__file__).resolve().parents[1]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def add_three_numbers(nodes: list[str]) -> list[dict[str, object]]:
    """What docs/tutorial.md does, in a loop."""
    apis = [fdrtd.Api(fdrtd.HttpInterface(url)) for url in nodes]
    simons = [api.select_microservice(protocol="Simon") for api in apis]
    networks = [{"nodes": nodes, "myself": place} for place in range(len(nodes))]
    tasks = [simons[0].create(microprotocol="BasicSum", network=networks[0])]
    invitation = tasks[0].invite()
    for simon, network in zip(simons[1:], networks[1:]):
        tasks.append(simon.join(invitation=invitation, network=network))
    for api, task, number in zip(apis, tasks, (10, 7, 14)):
        data = api.select_microservice(microservice="KeyValueStorage").create(value=number)
        task.input(source=data)
        data.delete()
    return [task.result() for task in tasks]


def main() -> int:
    demo = subprocess.Popen([TARGET / "debug" / "fdrtd", "demo", *sys.argv[1:]], stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        nodes: list[str] = []
        for line in demo.stdout:
            print(line, end="", flush=True)
            if found := re.search(r"FDRTD_CA_FILE='(.+)'", line):
                os.environ["FDRTD_CA_FILE"] = found[1]
            if found := re.search(r"listens on (\S+)", line):
                nodes.append(found[1])
            if len(nodes) == 3:
                break
        if len(nodes) != 3:
            return demo.wait() or 1
        print("\nThree parties hold 10, 7 and 14; each tells its own node only:\n")
        results = add_three_numbers(nodes)
        for url, result in zip(nodes, results):
            print(f"    {url} → {result}")
        right = all(result["result"] == {"samples": 3, "sum": 31} for result in results)
        print("\nThe sum is 31 at all three." if right else "\nThat is wrong.", flush=True)
        if os.environ.get("DEMO_ONCE") == "1" or not right:
            return 0 if right else 1
        print("The nodes stay up; Ctrl-C ends them.", flush=True)
        return demo.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        demo.terminate()
        demo.wait()


if __name__ == "__main__":
    sys.exit(main())
