"""Clara's part: her node adds her numbers to those of Anna and Ben."""

import json
from pathlib import Path

import fdrtd

nodes = json.loads(Path(__file__).with_name("network.json").read_text())["nodes"]
ages = [29, 62, 40.5]

print(fdrtd.compute("SecureSum", data=ages, network={"nodes": nodes, "myself": 2}))
