"""What a person knows a teacher, and the run of a config's node, by."""

from __future__ import annotations

from .identity import readable_name


def run_name(node: dict) -> str:
    """What a person knows the run of a node's config by: the experiment that trains it, or what its directory begins
    with."""
    return f"{node['experiment']} (seed {node['config']['seed']})" if "experiment" in node else readable_name(node["config"])


def teacher_name(node: dict) -> str:
    if "config" in node:
        return run_name(node)
    if "terms" in node:
        return f"a teacher per term ({', '.join(f'{term}: {name}' for term, name in node['terms'].items())})"
    if "members" in node:
        return f"ensemble of {len(node['members'])} ({', '.join(node['members'])})"
    return str(node.get("run") or node.get("checkpoint") or node.get("model") or node.get("_target_"))
