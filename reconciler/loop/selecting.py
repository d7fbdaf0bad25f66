"""`nodeSelector`: whether a container is for this node. Pure; the node's labels are gathered by the agent.

A container that is for another node is `Ignored`, which is no fault: one repository may serve many nodes.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.spec.model import ContainerSpec


def mismatch(spec: ContainerSpec, labels: Mapping[str, str]) -> str:
    """Why it is not for a node with these labels; "" when it is."""
    wrong = [
        f"{key} must be {value}, " + (f"this node's is {labels[key]}" if key in labels else "which this node lacks")
        for key, value in sorted(spec.node_selector.items())
        if labels.get(key) != value
    ]
    return f"its nodeSelector is for other nodes: {', '.join(wrong)}" if wrong else ""
